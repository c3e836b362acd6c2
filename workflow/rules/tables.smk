# Tables: CSV for programs, Markdown, LaTeX and HTML for readers.


rule table:
    input:
        list=table_list,
        runs=table_runs,
        measured=measured_files,
    output:
        csv=report(
            f"{OUTPUT}/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "form": "tidy CSV"},
        ),
        markdown=f"{OUTPUT}/{{table}}.md",
        latex=f"{OUTPUT}/{{table}}.tex",
        html=report(
            f"{OUTPUT}/{{table}}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "form": "as printed"},
        ),
        settings=f"{OUTPUT}/{{table}}.settings.json",
    log:
        f"logs/tables/{OUTPUT}/{{table}}.log",
    benchmark:
        f"logs/benchmarks/table/{OUTPUT}/{{table}}.tsv"
    resources:
        gpu=table_gpus,
        mem_mb=table_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
    shell:
        "ept table --config {params.config} --table {wildcards.table} > {log} 2>&1"


rule summary:
    input:
        list=LISTS[SUMMARY],
        tables=summarized_tables,
    output:
        summary=f"{OUTPUT}/summary.json",
        settings=f"{OUTPUT}/summary.settings.json",
    log:
        f"logs/tables/{OUTPUT}/summary.log",
    benchmark:
        f"logs/benchmarks/summary/{OUTPUT}.tsv"
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
    shell:
        "ept summary --config {params.config} > {log} 2>&1"


# What the backbone answers without any prompt: on demand, not part of `all`.
rule zero_shot:
    input:
        tokens=target_tokens,
        backbone=ancient(EXPERIMENT.backbone_files),
    output:
        [f"{OUTPUT}/zero_shot.{ending}" for ending in paths.TABLE_ENDINGS],
    log:
        f"logs/tables/{OUTPUT}/zero_shot.log",
    benchmark:
        f"logs/benchmarks/zero_shot/{OUTPUT}.tsv"
    threads: RESOURCES.threads
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=zero_shot_memory,
        runtime=zero_shot_minutes,
    params:
        config=resolved_configuration,
        weights=backbone_settings(
            EXPERIMENT.config.backbone, EXPERIMENT.backbone_identity
        ),
    shell:
        "ept zero-shot --config {params.config} --threads {threads} > {log} 2>&1"
