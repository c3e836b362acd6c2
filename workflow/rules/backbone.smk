# The frozen model: downloaded from the Hub, or the demonstration backbone trained anew.


rule download_backbone:
    output:
        directory("data/backbones/{name}-{revision}"),
    log:
        "logs/backbones/{name}-{revision}.log",
    wildcard_constraints:
        revision=r"[0-9a-f]{8}",
    retries: 2
    resources:
        mem_mb=lambda wildcards, attempt: RESOURCES.download_mb(attempt),
        runtime=lambda wildcards, attempt: grown_minutes(DOWNLOAD_MINUTES, attempt),
    params:
        config=resolved_configuration,
        costs="logs/benchmarks/download_backbone/{name}-{revision}.tsv",
    shell:
        EPT + " download-backbone --config {params.config:q} --costs {params.costs:q}"


rule backbone:
    output:
        directory("data/backbones/demo-rebuilt"),
    log:
        "logs/backbones/demo-rebuilt.log",
    # Asked for when the job is planned: with `--report` there is no number of cores.
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    shell:
        "ept rebuild-demo-backbone --folder {output:q} --threads {threads} 2>&1 | tee {log:q}"
