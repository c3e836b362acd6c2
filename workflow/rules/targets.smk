# Targets between the first and the last: what the stages of dvc.yaml ask for.


rule backbone_identity:
    input:
        ancient(EXPERIMENT.backbone_files),
    output:
        f"data/backbones/{EXPERIMENT.config.backbone.name}-{digest(EXPERIMENT.backbone_identity)}.txt",
    log:
        "logs/backbones/identity.log",
    params:
        identity=EXPERIMENT.backbone_identity,
    shell:
        "(echo {params.identity:q} > {output}.part && mv {output}.part {output}) 2> {log}"


rule data:
    input:
        [EXPERIMENT.raw_folder(task) for task in EXPERIMENT.tasks],
        [
            path
            for task in EXPERIMENT.tasks
            for path in splits(EXPERIMENT.tokenized_folder(task))
        ],


rule source_prompts:
    input:
        [pack.source_prompt for pack in SOURCE_PACKS],
    output:
        f"data/source_prompts/{digest([pack.hash for pack in SOURCE_PACKS])}.sha256",
    log:
        "logs/source_prompts.log",
    shell:
        """
        : >{output}.part
        for prompt in {input}; do sha256sum $prompt >>{output}.part 2>{log}; done
        mv {output}.part {output}
        """


rule experiments:
    input:
        [path for pack in EXPERIMENT.packs for path in pack.files],
