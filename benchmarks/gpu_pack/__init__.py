"""What a GPU machine without a network lacks, packed on a machine that has one."""
