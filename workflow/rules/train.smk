# Full-data and few-shot training: one job for each pack (learning rates x seeds of one method, task and regime).


rule train:
    input:
        tokens=pack_tokens,
        backbone=ancient(TARGETS.backbone_inputs),
        sources=pack_sources,
    output:
        runs=TARGETS.run_file("runs.json"),
        predictions=TARGETS.run_file("predictions.parquet"),
        settings=TARGETS.run_file("settings.json"),
        prompts=[
            TARGETS.prompt_file(f"seed{seed}.safetensors")
            for seed in EXPERIMENT.config.seeds_for(packed=True)
        ],
        prompt_settings=TARGETS.prompt_file("settings.json"),
    log:
        "logs/train/{backbone}/{method}/{task}/{regime}/{hash}.log",
    wildcard_constraints:
        method="|".join(name for name, method in METHODS.items() if method.packed),
    threads: RESOURCES.threads
    resources:
        gpu=RESOURCES.gpus,
        mem_mb=lambda wildcards, attempt: RESOURCES.memory_mb(pack(wildcards), attempt),
        runtime=lambda wildcards, attempt: RESOURCES.minutes(pack(wildcards), attempt),
    params:
        config=resolved_configuration,
        costs="logs/benchmarks/train/{backbone}/{method}/{task}/{regime}/{hash}.tsv",
    shell:
        ept(
            "train --config {params.config:q} --hash {wildcards.hash:q} --method {wildcards.method:q} "
            "--task {wildcards.task:q} --threads {threads} --gpus {resources.gpu} "
            "--costs {params.costs:q}"
        )


# Methods that train weights may have fewer seeds.
use rule train as train_weights with:
    output:
        runs=TARGETS.run_file("runs.json"),
        predictions=TARGETS.run_file("predictions.parquet"),
        settings=TARGETS.run_file("settings.json"),
        prompts=[
            TARGETS.prompt_file(f"seed{seed}.safetensors")
            for seed in EXPERIMENT.config.seeds_for(packed=False)
        ],
        prompt_settings=TARGETS.prompt_file("settings.json"),
    wildcard_constraints:
        method="|".join(name for name, method in METHODS.items() if not method.packed),


# Source prompts: full-data training of prompt methods on the source tasks, with the first seed. MPT's (task
# `multitask`) is distilled from those of PT. The test split of a source task is not predicted.
use rule train as train_source with:
    output:
        runs=TARGETS.run_file("runs.json", SOURCE),
        settings=TARGETS.run_file("settings.json", SOURCE),
        prompt=TARGETS.prompt_file(
            f"seed{EXPERIMENT.config.seeds[0]}.safetensors", SOURCE
        ),
        prompt_settings=TARGETS.prompt_file("settings.json", SOURCE),
    log:
        f"logs/train/{{backbone}}/{{method}}/{{task}}/{SOURCE}/{{hash}}.log",
    params:
        config=resolved_configuration,
        costs=f"logs/benchmarks/train_source/{{backbone}}/{{method}}/{{task}}/{SOURCE}/{{hash}}.tsv",
