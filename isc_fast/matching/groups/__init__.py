"""What pairs come to: groups of copies, which photo of them stays, and photos that match everything."""
