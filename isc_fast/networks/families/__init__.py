"""The families of networks that engines are made from, one file each, and the table of them."""
