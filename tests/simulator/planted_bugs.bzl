"""Simulators of an engine with a bug in it, for the test of the simulator."""

load("@rules_cc//cc:defs.bzl", "cc_binary")

def planted_bug(name, file, edit):
    """Defines the simulator :<name>, with one file of the engine changed.

    The changed copy is linked before the engine's library, whose own is left
    out then.

    Args:
      name: of the bug.
      file: label of the source file that has it.
      edit: sed -E's command that plants it; the build fails if it changes
        nothing.
    """
    source = "planted/" + name + "/" + file.split(":")[1]
    native.genrule(
        name = name + "_source",
        testonly = True,
        srcs = [file],
        outs = [source],
        cmd = "sed -E '%s' $< > $@ && ! cmp -s $< $@" % edit,
    )
    cc_binary(
        name = name,
        testonly = True,
        srcs = [source],
        # What an edit leaves unused is no matter.
        copts = ["-w"],
        deps = [
            ":simulate_main",
            ":simulation",
        ] + _HEADERS,
    )

# Whatever the files above include.
_HEADERS = [
    "//engine/dispatch:dispatcher",
    "//engine/dispatch:replay",
    "//engine/dispatch:slice_records",
    "//engine/dispatch:twin_journal",
    "//engine/journal:chunk",
    "//engine/journal:group_commit",
    "//engine/journal:record",
    "//engine/model:check",
    "//engine/model:error",
    "//engine/model:instant",
    "//engine/model:json",
    "//engine/schedule:parallel",
    "//engine/twin:device_hash",
    "//engine/twin:shard",
    "//engine/twin:shard_replay",
    "@com_google_absl//absl/strings",
]
