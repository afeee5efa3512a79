"""The factory of the engine in the package. It is no part of the installed package: it runs ``apt-get`` and ``npm``."""
