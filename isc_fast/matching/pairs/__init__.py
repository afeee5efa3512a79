"""Pairs of one side or two: searches and joins, in one piece or in tasks, and the views of photos in them."""
