import setuptools

# Nova imports compute drivers from nova.virt only, so one module of ours is
# installed there. It needs no package of its own: Nova's is already there.
setuptools.setup(
    setup_requires=['pbr>=6.1.1'],
    pbr=True,
    package_dir={'nova.virt': 'shim'},
    py_modules=['nova.virt.kongming'],
    # setup.cfg has no key for it, as pbr reads that.
    license_expression='Apache-2.0',
)
