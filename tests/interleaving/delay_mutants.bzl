"""Copies of the delay rings with a bug sown, for the test that looks for bugs."""

_HEADERS = ["node_slab.h", "bucket_ring.h", "delay_rings.h"]

def delay_mutant(name, header, edit):
    """Defines <name>_headers, the rings in namespace muster::<name>.

    Args:
      name: of the bug.
      header: the file of engine/schedule that has it.
      edit: sed's command that sows it; the build fails if it changes nothing.
    """
    native.genrule(
        name = name + "_headers",
        testonly = True,
        srcs = ["//engine/schedule:" + h for h in _HEADERS],
        outs = [name + "/" + h for h in _HEADERS],
        cmd = " && ".join(
            ["set -e"] + [
                ("sed -E -e 's/^(.*ENGINE_SCHEDULE_)/\\1%s_/'" +
                 " -e 's/^namespace muster \\{/namespace muster::%s {/'" +
                 " -e 's#engine/schedule/(node_slab|bucket_ring|delay_rings).h#tests/interleaving/%s/\\1.h#'" +
                 " $(location //engine/schedule:%s) > $(location %s/%s)") %
                (name, name, name, h, name, h)
                for h in _HEADERS
            ] + [
                "cp $(location %s/%s) $(@D)/%s.before" % (name, header, name),
                "sed -i -E '%s' $(location %s/%s)" % (edit, name, header),
                "! cmp -s $(location %s/%s) $(@D)/%s.before" % (name, header, name),
                "rm $(@D)/%s.before" % name,
            ],
        ),
    )
