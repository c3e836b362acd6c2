# What people look at: figures, and the report's pages on what was run and what it cost.


rule figures:
    input:
        tables=figure_tables,
        runs=figure_records,
    output:
        figure_outputs(),
    log:
        f"logs/figures/{OUTPUT}.log",
    benchmark:
        f"logs/benchmarks/figures/{OUTPUT}.tsv"
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
    shell:
        "ept figures --config {params.config} > {log} 2>&1"


rule report_pages:
    input:
        # Not read: what the run cost is known when all this is there.
        table_files(),
        paths.summary_file(OUTPUT),
        figure_files(),
    output:
        overview=paths.report_files(OUTPUT)["overview"],
        costs=report(
            paths.report_files(OUTPUT)["costs"],
            caption="../report/costs.rst",
            category="Costs",
            labels={"table": "by rule"},
        ),
    log:
        f"logs/report_pages/{OUTPUT}.log",
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
    shell:
        "ept report-pages --config {params.config} > {log} 2>&1"
