# Targets between the first and the last: what the stages of dvc.yaml ask for.


rule backbone_identity:
    input:
        ancient(EXPERIMENT.backbone_files),
    output:
        f"data/backbones/{EXPERIMENT.config.backbone.name}-{digest(EXPERIMENT.backbone_identity)}.txt",
    log:
        "logs/backbones/identity.log",
    # It only writes a line.
    localrule: True
    params:
        identity=EXPERIMENT.backbone_identity,
    shell:
        "(printf '%s\\n' {params.identity:q} > {output:q}.part && mv {output:q}.part {output:q}) 2> {log:q}"


rule data:
    input:
        [EXPERIMENT.raw_folder(task) for task in EXPERIMENT.tasks],
        TARGETS.tokens(*EXPERIMENT.tasks),


rule visual:
    input:
        TARGETS.visual_folders(EXPERIMENT.tasks),
    output:
        f"data/visual/{digest([str(folder) for folder in TARGETS.visual_folders(EXPERIMENT.tasks)])}.sha256",
    log:
        "logs/visual.log",
    localrule: True
    shell:
        """
        : >{output:q}.part
        for folder in {input:q}; do sha256sum "$folder"/*/manifest.json >>{output:q}.part 2>{log:q}; done
        mv {output:q}.part {output:q}
        """


rule source_prompts:
    input:
        [pack.source_prompt for pack in TARGETS.source_packs],
    output:
        f"data/source_prompts/{digest([pack.hash for pack in TARGETS.source_packs])}.sha256",
    log:
        "logs/source_prompts.log",
    localrule: True
    shell:
        """
        : >{output:q}.part
        for prompt in {input:q}; do sha256sum "$prompt" >>{output:q}.part 2>{log:q}; done
        mv {output:q}.part {output:q}
        """


rule experiments:
    input:
        [path for pack in EXPERIMENT.packs for path in pack.files],
