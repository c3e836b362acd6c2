include: "workflow/Snakefile"


# An included file's first rule is no default target.
workflow.default_target = "all"
