# Install torch into the image's environment. Needs VARIANT, TORCH_INDEX, uv in /opt/tools and the lock.
set -eu
uv=/opt/tools/uv
lock=$VIRTUAL_ENV/locks/torch.txt

if [ -n "$TORCH_INDEX" ]; then
    # The lock's hashes are those of the usual index: take its other packages by hash, and torch with what belongs to
    # it (torchvision must be built for the same torch) from the given index, in the locked version.
    grep -oE '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==' "$lock" | tr -d = >/tmp/excludes.txt
    "$uv" pip install --no-deps --require-hashes --excludes /tmp/excludes.txt --requirements "$lock"
    version=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' "$lock")
    "$uv" pip install --default-index "$TORCH_INDEX" "torch==$version" torchvision
    rm /tmp/excludes.txt
    exit
fi
"$uv" pip install --no-deps --require-hashes --requirements "$lock"
if [ "$VARIANT" = cpu ]; then
    library=$("$VIRTUAL_ENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch/lib
    PYTHONPATH=/opt/source PYTHONDONTWRITEBYTECODE=1 "$VIRTUAL_ENV/bin/python" -m star_cli.images.cuda_stubs "$library"
fi
