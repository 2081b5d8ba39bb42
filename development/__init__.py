"""What dev.py does, a module for each chore; standard library only, and no part of the package."""
