# Tables: CSV for programs, Markdown and LaTeX for readers.


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
            labels={"table": "{table}"},
        ),
        markdown=f"{OUTPUT}/{{table}}.md",
        latex=f"{OUTPUT}/{{table}}.tex",
        settings=f"{OUTPUT}/{{table}}.settings.json",
    log:
        f"logs/tables/{OUTPUT}/{{table}}.log",
    params:
        config=resolved_configuration,
    shell:
        "ept table --config {params.config} --table {wildcards.table} > {log} 2>&1"
