# Full-data and few-shot training: one job a pack (learning rates x seeds of one method, task and regime).


rule train:
    input:
        tokens=tokenized_files,
        backbone=ancient(EXPERIMENT.backbone_files),
        sources=candidate_prompts,
    output:
        runs=f"{OUTPUT}/runs/{{backbone}}/{{method}}/{{task}}/{{regime}}/{{hash}}/runs.json",
        predictions=f"{OUTPUT}/runs/{{backbone}}/{{method}}/{{task}}/{{regime}}/{{hash}}/predictions.parquet",
        settings=f"{OUTPUT}/runs/{{backbone}}/{{method}}/{{task}}/{{regime}}/{{hash}}/settings.json",
        prompts=expand(
            "prompts/{{backbone}}/{{method}}/{{task}}/{{regime}}/{{hash}}/seed{seed}.safetensors",
            seed=SEEDS,
        ),
        prompt_settings="prompts/{backbone}/{method}/{task}/{regime}/{hash}/settings.json",
    log:
        "logs/train/{backbone}/{method}/{task}/{regime}/{hash}.log",
    benchmark:
        "logs/benchmarks/train/{backbone}/{method}/{task}/{regime}/{hash}.tsv"
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
