"""Why a model cannot be chosen, planned or fetched. Every message tells the operator what to do.

ModelError
├── ModelNotAvailable
│   ├── UnknownModel
│   └── GpusUnusable
├── UnknownArchitecture
├── DoesNotFit
└── DownloadFailed
    ├── HubUnreachable
    └── FolderInTheWay
"""


class ModelError(Exception):
    """The root."""


class ModelNotAvailable(ModelError):
    """The wanted model cannot be served from this machine's disk."""


class UnknownModel(ModelNotAvailable):
    """No model of the catalogue has this name; the message lists the names."""


class GpusUnusable(ModelNotAvailable):
    """The GPUs are large enough for the wanted model and cannot be used."""


class UnknownArchitecture(ModelError):
    """The number of this model type's parameters is not known here."""


class DoesNotFit(ModelError):
    """The message says how much memory is missing, and where."""


class DownloadFailed(ModelError):
    """The weights did not arrive, or their checksums differ from the source's."""


class HubUnreachable(DownloadFailed):
    """The hub did not answer with a listing. Another hub may."""


class FolderInTheWay(DownloadFailed):
    """The model's folder exists and does not hold the complete model."""
