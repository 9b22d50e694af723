"""Wake-up hints to workers; losing them delays a task and loses none."""
