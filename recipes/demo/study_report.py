def write(plan, show=False):
    pass
