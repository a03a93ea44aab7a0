"""What every training needs and that knows no subject: files, loops, checkpoints."""
