r"""One protocol a file, found by the file's name: ``edm_qm9.py`` holds the ``PROTOCOL`` of id ``edm-qm9``."""
