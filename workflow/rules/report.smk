# Figures, and the report's pages on what was run and what it cost.


rule figures:
    input:
        list=LISTS[FIGURES],
        tables=TARGETS.tables_of(
            table for kind in DRAWN for table in kind.tables_of(EXPERIMENT)
        ),
        runs=[pack.folder / "runs.json" for pack in EXPERIMENT.table_packs(MAIN)],
    output:
        # The report shows the page with its caption and the drawing alone.
        [
            report(path, category="Figures", **shown) if shown else path
            for path, shown in TARGETS.figures_in_report(TITLES, FOLDER).items()
        ],
    log:
        f"logs/figures/{NAME}.log",
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
        costs=f"logs/benchmarks/figures/{NAME}.tsv",
    shell:
        ept("figures --config {params.config:q} --costs {params.costs:q}")


rule report_pages:
    input:
        LISTS[PAGES],
        # Not read: what the run cost is known when all this is there.
        TARGETS.tables,
        TARGETS.summary[0],
        TARGETS.figures(TITLES),
    output:
        overview=paths.report_files(OUTPUT)["overview"],
        costs=report(
            paths.report_files(OUTPUT)["costs"],
            caption="../report/costs.rst",
            category="Costs",
            labels={"table": "by rule"},
        ),
        runs=report(
            directory(paths.report_files(OUTPUT)["runs"]),
            caption="../report/runs.rst",
            category="Runs",
            labels={"table": "from a score to its predictions"},
            htmlindex="index.html",
        ),
        settings=paths.report_files(OUTPUT)["settings"],
    log:
        f"logs/report_pages/{NAME}.log",
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
    shell:
        ept("report-pages --config {params.config:q}")
