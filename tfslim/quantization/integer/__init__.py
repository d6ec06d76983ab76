"""INT8 where litert-quantizer has none: ops, ends, and files without any float."""
