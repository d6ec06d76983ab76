"""The architectures that tfslim can build, one a file, and the table of them."""
