"""This package makes the engine that isc-fast ships. It is not installed, because it runs ``apt-get`` and ``npm``."""
