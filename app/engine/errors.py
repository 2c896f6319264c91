"""Why the local engine cannot start, or must end. Every message is for the operator.

EngineError
├── LoadError
│   └── UnsupportedModel
├── SelfCheckFailed
└── DevicePoisonedError
"""


class EngineError(Exception):
    """The root."""


class LoadError(EngineError):
    """The model cannot be loaded or adapted as the settings say."""


class UnsupportedModel(LoadError):
    """The model does not have the modules that the decoder calls."""


class SelfCheckFailed(EngineError):
    """A device or the weights are wrong: the engine must not serve."""


class DevicePoisonedError(EngineError):
    """A device computes nothing any more, or computes wrong numbers. Only a new process helps."""
