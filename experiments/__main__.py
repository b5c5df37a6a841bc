"""`python -m experiments` lists the experiments, as `jaxgan` does."""

from jaxgan.run import command

if __name__ == "__main__":
    command.main()
