"""What a command needs of the machine it runs on, seen and brought about before anything slow begins.

needs     what each command needs: programs, rights, kernel features, ports, memory, disk
facts     what the machine is and has, in the first seconds
findings  facts against needs: what to install, and a sentence for each thing that cannot be installed
kernel    the kernel features, tried in namespaces of their own
packages  Debian packages, all at once
prepare   the steps in their order; `python -m star_cli.host` runs them before the environment exists

So nothing in here imports more than the standard library and modules of ours of which the same is true.
"""
