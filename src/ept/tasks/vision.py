"""Tasks with images: two drawn ones, scikit-learn's digits, VQA v2 (arXiv 1612.00837) and COCO captions.

Each row has one image, whose features follow the text. COCO's splits are Karpathy's (arXiv 1412.2306); the answers
are all captions of an image.
"""

from ept.tasks.record import Task

SHAPES_ANSWERS = ("yes", "no", "1", "2", "3", "ball", "tree", "house", "wheel", "red", "blue", "green")
DIGITS_ANSWERS = (*"0123456789", "yes", "no")

VISION = (
    Task(
        name="shapes_vqa",
        suite="shapes",
        config="vqa",
        title="Shapes VQA",
        kind="classification",
        columns={"question": "text"},
        template="question: {question}",
        labels=SHAPES_ANSWERS,
        metrics=("accuracy",),
        split="published",
        sets=("vision_demo",),
        image="image",
    ),
    Task(
        name="shapes_captioning",
        suite="shapes",
        config="captioning",
        title="Shapes captions",
        kind="extraction",
        columns={},
        template="what was it?",
        metrics=("cider", "bleu4"),
        split="published",
        sets=("vision_demo",),
        image="image",
    ),
    Task(
        name="digits",
        suite="digits",
        config="questions",
        title="Digits",
        kind="classification",
        columns={"question": "text"},
        template="question: {question}",
        labels=DIGITS_ANSWERS,
        metrics=("accuracy",),
        split="published",
        sets=("vision_demo",),
        image="image",
        note="scikit-learn's handwritten digits: 897, 300 and 600 images, with three questions about each",
    ),
    Task(
        name="vqa",
        suite="vqa",
        config="data",
        title="VQA v2",
        kind="extraction",
        columns={"question": "text"},
        template="question: {question}",
        metrics=("vqa_accuracy",),
        # The Hub's Parquet files (lmms-lab/VQAv2) have no training split, so that only local folders are read.
        split="carve",
        sets=("vision",),
        # Questions are cut at 20 pieces, as in VL-Adapter.
        source_length=20,
        image="image",
    ),
    Task(
        name="coco",
        suite="coco",
        config="karpathy",
        title="COCO captions",
        kind="extraction",
        columns={},
        template="describe the picture",
        metrics=("cider", "bleu4"),
        split="published",
        sets=("vision",),
        source_length=20,
        image="image",
    ),
)
