"""Names of the formats that an encoder is exported to; `export.FORMATS` says how each is written.

Imports no torch: schemas are read before anything heavy is.
"""

FORMAT_NAMES = ("timm", "hf", "torchvision", "state_dict", "onnx")
