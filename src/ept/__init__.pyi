from ept.api.prompt import Prompt as Prompt
from ept.api.prompted import Prompted as Prompted
from ept.api.train import train as train

__all__ = ["Prompt", "Prompted", "__version__", "train"]

DISTRIBUTION: str
__version__: str
