from ept.api.evaluate import evaluate as evaluate
from ept.api.prompt import Prompt as Prompt
from ept.api.prompted import Prompted as Prompted
from ept.api.train import train as train

__all__ = ["Prompt", "Prompted", "__version__", "evaluate", "train"]

DISTRIBUTION: str
__version__: str
