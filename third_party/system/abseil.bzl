"""Upstream Abseil labels, on the installed libraries or on a source tree.

The source tree is for ThreadSanitizer: absl::Mutex is no pthread mutex, so an
uninstrumented libabsl_synchronization hides every lock from TSan. The tree is
the distribution's (patched) source: the version and the options that everything
else is built with.
"""

load("//third_party/system:pkg_config.bzl", "pkg_config_repository")

_PACKAGES = {
    "algorithm": {"algorithm": "algorithm", "container": "algorithm_container"},
    "base": {
        "base": "base",
        "config": "config",
        "core_headers": "core_headers",
        "dynamic_annotations": "dynamic_annotations",
        "endian": "endian",
        "log_severity": "log_severity",
        "prefetch": "prefetch",
    },
    "cleanup": {"cleanup": "cleanup"},
    "container": {
        "btree": "btree",
        "fixed_array": "fixed_array",
        "flat_hash_map": "flat_hash_map",
        "flat_hash_set": "flat_hash_set",
        "inlined_vector": "inlined_vector",
        "node_hash_map": "node_hash_map",
        "node_hash_set": "node_hash_set",
    },
    "debugging": {
        "failure_signal_handler": "failure_signal_handler",
        "leak_check": "leak_check",
        "stacktrace": "stacktrace",
        "symbolize": "symbolize",
    },
    "flags": {
        "commandlineflag": "flags_commandlineflag",
        "config": "flags_config",
        "flag": "flags",
        "marshalling": "flags_marshalling",
        "parse": "flags_parse",
        "reflection": "flags_reflection",
        "usage": "flags_usage",
    },
    "functional": {
        "any_invocable": "any_invocable",
        "bind_front": "bind_front",
        "function_ref": "function_ref",
    },
    "hash": {"hash": "hash"},
    "memory": {"memory": "memory"},
    "meta": {"type_traits": "type_traits"},
    "numeric": {"bits": "bits", "int128": "int128"},
    "random": {
        "bit_gen_ref": "random_bit_gen_ref",
        "distributions": "random_distributions",
        "random": "random_random",
        "seed_sequences": "random_seed_sequences",
    },
    "status": {"status": "status", "statusor": "statusor"},
    "strings": {"cord": "cord", "str_format": "str_format", "strings": "strings"},
    "synchronization": {"synchronization": "synchronization"},
    "time": {"time": "time"},
    "types": {
        "any": "any",
        "compare": "compare",
        "optional": "optional",
        "span": "span",
        "variant": "variant",
    },
    "utility": {"utility": "utility"},
}

_PUBLIC = "package(default_visibility = [\"//visibility:public\"])\n"

# Sources of tests, benchmarks and generators.
_NOT_THE_LIBRARY = [
    "*_test.cc",
    "*_test_*.cc",
    "test_*.cc",
    "*benchmark*.cc",
    "*_testing.cc",
    "*_mock*.cc",
    "chi_square.cc",
    "gaussian_distribution_gentables.cc",
    "print_hash_of.cc",
]

_SOURCE_BUILD = _PUBLIC + """
cc_library(
    name = "absl",
    srcs = glob(["src/absl/**/*.cc"], exclude = {exclude}),
    hdrs = glob(["src/absl/**/*.h"]),
    textual_hdrs = glob(["src/absl/**/*.inc"]),
    copts = ["-w", "-maes", "-msse4.1"],
    includes = ["src"],
    linkopts = ["-lpthread", "-lrt"],
)
"""

def _abseil_source_impl(rctx):
    tree = rctx.os.environ.get("MUSTER_ABSEIL_SOURCE", "")
    if not tree:
        # Unused unless asked for; must still be loadable.
        rctx.file("BUILD.bazel", "")
        return
    if not tree.startswith("/"):
        tree = str(rctx.path(Label("//:WORKSPACE")).dirname) + "/" + tree
    if not rctx.path(tree + "/absl").exists:
        fail("no Abseil source in %s: run third_party/system/abseil_source.sh" % tree)

    # A copy without its BUILD files: they would be package borders to glob().
    r = rctx.execute([
        "sh",
        "-c",
        "mkdir src && cp -r \"$0/absl\" src/absl && find src -name BUILD.bazel -delete",
        tree,
    ])
    if r.return_code != 0:
        fail("copying %s: %s" % (tree, r.stderr))
    rctx.file("BUILD.bazel", _SOURCE_BUILD.format(
        exclude = repr(["src/absl/**/" + p for p in _NOT_THE_LIBRARY]),
    ))

abseil_source_repository = repository_rule(
    implementation = _abseil_source_impl,
    configure = True,
    environ = ["MUSTER_ABSEIL_SOURCE"],
    local = True,
)

def abseil_repositories():
    """Declares @com_google_absl (the labels) and @com_google_absl_source (the tree)."""
    if native.existing_rule("com_google_absl"):
        return
    abseil_source_repository(name = "com_google_absl_source")
    pkg_config_repository(
        name = "com_google_absl",
        instead = "@com_google_absl_source//:absl",
        instead_if = "MUSTER_ABSEIL_SOURCE",
        modules = {
            "absl/%s:%s" % (package, target): "absl_" + module
            for package, targets in _PACKAGES.items()
            for target, module in targets.items()
        },
    )
