# Tables: CSV for programs, Markdown, LaTeX and HTML for readers.


rule table:
    input:
        list=table_list,
        runs=lambda wildcards: known(TARGETS.records, wildcards.table),
        measured=lambda wildcards: ancient(TARGETS.measured_files(wildcards.table)),
    output:
        csv=report(
            f"{OUTPUT}/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels=table_labels("tidy CSV"),
        ),
        markdown=f"{OUTPUT}/{{table}}.md",
        latex=f"{OUTPUT}/{{table}}.tex",
        html=report(
            f"{OUTPUT}/{{table}}.html",
            caption="../report/table.rst",
            category="Tables",
            labels=table_labels("as printed"),
        ),
        settings=f"{OUTPUT}/{{table}}.settings.json",
    log:
        f"logs/tables/{NAME}/{{table}}.log",
    resources:
        gpu=lambda wildcards: (
            RESOURCES.gpus if TARGETS.measured_packs(wildcards.table) else 0
        ),
        # Measuring takes no more than training.
        mem_mb=lambda wildcards, attempt: grown_memory(
            max(
                [
                    LIGHT_MB,
                    *map(RESOURCES.memory_mb, TARGETS.measured_packs(wildcards.table)),
                ]
            ),
            attempt,
        ),
        runtime=light_minutes,
    params:
        config=resolved_configuration,
        caption=lambda wildcards: caption_of(wildcards.table),
        costs=f"logs/benchmarks/table/{NAME}/{{table}}.tsv",
    shell:
        ept(
            "table --config {params.config:q} --table {wildcards.table:q} --costs {params.costs:q}"
        )


rule summary:
    input:
        list=LISTS[SUMMARY],
        tables=TARGETS.summarized_tables,
    output:
        TARGETS.summary,
    log:
        f"logs/tables/{NAME}/summary.log",
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
        costs=f"logs/benchmarks/summary/{NAME}.tsv",
    shell:
        ept("summary --config {params.config:q} --costs {params.costs:q}")


# The backbone's answers without a prompt: made on demand, not part of `all`.
rule zero_shot:
    input:
        list=LISTS[ZERO_SHOT],
        tokens=ancient(TARGETS.tokens(*EXPERIMENT.config.tasks.target)),
        backbone=ancient(TARGETS.backbone_inputs),
    output:
        TARGETS.table(ZERO_SHOT),
    log:
        f"logs/tables/{NAME}/zero_shot.log",
    threads: RESOURCES.threads
    resources:
        gpu=RESOURCES.gpus,
        # No more memory than training takes.
        mem_mb=lambda wildcards, attempt: max(
            RESOURCES.memory_mb(pack, attempt) for pack in EXPERIMENT.table_packs(MAIN)
        ),
        runtime=lambda wildcards, attempt: RESOURCES.zero_shot_minutes(attempt),
    params:
        config=resolved_configuration,
    shell:
        ept("zero-shot --config {params.config:q} --threads {threads}")
