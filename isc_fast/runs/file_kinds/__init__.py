"""What a file is: a row for each kind of file or folder that isc-fast reads or writes."""
