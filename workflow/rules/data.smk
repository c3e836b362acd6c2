# Published splits as they come, then split, sampled and tokenized once per backbone and task; features of images.


rule fetch:
    output:
        directory("data/raw/{identity}/{task}"),
    log:
        "logs/fetch/{identity}/{task}.log",
    retries: 2 if EXPERIMENT.data.kind == "hub" else 0
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
        costs="logs/benchmarks/fetch/{identity}/{task}.tsv",
    shell:
        ept(
            "fetch --config {params.config:q} --task {wildcards.task:q} --costs {params.costs:q}"
        )


rule tokenize:
    input:
        raw=lambda wildcards: ancient(EXPERIMENT.raw_folder(wildcards.task)),
        tokenizer=ancient(TARGETS.tokenizer_inputs),
    output:
        [
            f"data/tokenized/{{backbone}}/{{task}}/{{hash}}/{split}.arrow"
            for split in SPLITS
        ],
    log:
        "logs/tokenize/{backbone}/{task}/{hash}.log",
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
        costs="logs/benchmarks/tokenize/{backbone}/{task}/{hash}.tsv",
    shell:
        ept(
            "tokenize --config {params.config:q} --task {wildcards.task:q} --threads {threads} "
            "--costs {params.costs:q}"
        )


# Once for each image, whatever the backbone: all runs read them.
rule visual_features:
    input:
        raw=lambda wildcards: ancient(EXPERIMENT.raw_folder(wildcards.task)),
    output:
        directory("data/visual/{encoder}/{task}"),
    log:
        "logs/visual_features/{encoder}/{task}.log",
    wildcard_constraints:
        encoder=r"[^/]+",
    threads: RESOURCES.threads
    resources:
        mem_mb=light_memory,
        runtime=light_minutes,
    params:
        config=resolved_configuration,
        costs="logs/benchmarks/visual_features/{encoder}/{task}.tsv",
    shell:
        ept(
            "visual-features --config {params.config:q} --task {wildcards.task:q} --threads {threads} "
            "--costs {params.costs:q}"
        )
