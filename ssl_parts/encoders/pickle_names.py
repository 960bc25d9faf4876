"""Names in pickled checkpoints: those that end the reading, and those that are plain containers."""

# Modules no checkpoint has a reason to name. Nothing of them would run: the file is refused, so
# that its reader learns what it is.
HOSTILE = {
    *("os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "shutil", "socket", "pty"),
    *("ctypes", "webbrowser", "code", "codeop", "marshal", "multiprocessing", "operator", "types"),
    *("pickle", "_pickle", "cloudpickle", "dill", "tempfile", "http", "urllib", "asyncio"),
}
BUILTINS = {
    *("set", "frozenset", "dict", "list", "tuple", "int", "float", "bool", "complex", "str"),
    *("bytes", "bytearray", "slice", "range", "object", "NoneType", "long", "unicode"),
}
MAPPINGS = {
    *("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict"),
    *("pytorch_lightning.utilities.parsing.AttributeDict", "easydict.EasyDict", "addict.Dict"),
    *("lightning_fabric.utilities.data.AttributeDict", "yacs.config.CfgNode", "addict.addict.Dict"),
    *("lightning.fabric.utilities.data.AttributeDict", "fvcore.common.config.CfgNode"),
    *(
        "mmcv.utils.config.ConfigDict",
        "mmengine.config.config.ConfigDict",
        "torch.nn.ParameterDict",
    ),
}
