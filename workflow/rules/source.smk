# Source prompts: full-data training of every prompt method on the source tasks, with the first seed. MPT's (task
# `multitask`) is distilled from those of PT.


rule train_source:
    input:
        tokens=tokenized_files,
        backbone=ancient(EXPERIMENT.backbone_files),
        teachers=candidate_prompts,
    output:
        runs=f"{OUTPUT}/runs/{{backbone}}/{{method}}/{{task}}/source/{{hash}}/runs.json",
        settings=f"{OUTPUT}/runs/{{backbone}}/{{method}}/{{task}}/source/{{hash}}/settings.json",
        prompt=f"prompts/{{backbone}}/{{method}}/{{task}}/source/{{hash}}/seed{SEEDS[0]}.safetensors",
        prompt_settings="prompts/{backbone}/{method}/{task}/source/{hash}/settings.json",
    log:
        "logs/train/{backbone}/{method}/{task}/source/{hash}.log",
    benchmark:
        "logs/benchmarks/train_source/{backbone}/{method}/{task}/source/{hash}.tsv"
    threads: RESOURCES.threads
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=training_memory,
        runtime=training_minutes,
    params:
        config=resolved_configuration,
    # `exec`: of a scheduler's SIGTERM a shell would die, and nobody would wait for its training to save itself.
    shell:
        "exec ept train --config {params.config} --hash {wildcards.hash} --threads {threads} "
        "--gpus {resources.gpu} > {log} 2>&1"
