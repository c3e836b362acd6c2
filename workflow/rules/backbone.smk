# The frozen model: downloaded from the Hub, or the demonstration's trained anew, and its encoder of images.


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
        ept("download-backbone --config {params.config:q} --costs {params.costs:q}")


rule backbone:
    output:
        directory("data/backbones/demo-rebuilt"),
    log:
        "logs/backbones/demo-rebuilt.log",
    # The shipped weights were made with one thread; with more, sums are rounded otherwise.
    threads: 1
    resources:
        mem_mb=light_memory,
        # About half an hour on a core of its own.
        runtime=lambda wildcards, attempt: grown_minutes(120, attempt),
    shell:
        "ept rebuild-demo-backbone --folder {output:q} --threads {threads} 2>&1 | tee {log:q}"


rule encoder:
    output:
        directory("data/encoders/demo-rebuilt"),
    log:
        "logs/encoders/demo-rebuilt.log",
    threads: 1
    resources:
        mem_mb=light_memory,
        runtime=lambda wildcards, attempt: grown_minutes(60, attempt),
    shell:
        "ept rebuild-demo-encoder --folder {output:q} --threads {threads} 2>&1 | tee {log:q}"
