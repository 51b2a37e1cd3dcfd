"""The published model sets: from their authors' places into the folder of kept ones."""
