"""Repositories that Bazel itself would download at the first build."""

def _installed_impl(rctx):
    root = rctx.path(rctx.attr.path)
    if not root.exists:
        fail("%s not found: apt-get install %s" % (rctx.attr.path, rctx.attr.package))
    for entry in root.readdir():
        rctx.symlink(entry, entry.basename)

# The rules that a Debian package installs.
_installed_rules_repository = repository_rule(
    implementation = _installed_impl,
    attrs = {
        "package": attr.string(mandatory = True, doc = "the Debian package"),
        "path": attr.string(mandatory = True, doc = "where it puts the rules"),
    },
    local = True,
)

def _files_impl(rctx):
    rctx.file("BUILD.bazel", "")
    for label, dest in rctx.attr.files.items():
        rctx.file(dest, rctx.read(label))
        package = dest.rpartition("/")[0]
        if package and not rctx.path(package + "/BUILD.bazel").exists:
            rctx.file(package + "/BUILD.bazel", "")

# A few files of this repository as a repository of their own.
_files_repository = repository_rule(
    implementation = _files_impl,
    attrs = {"files": attr.label_keyed_string_dict(mandatory = True, allow_files = True)},
)

def _maybe(rule, name, **kwargs):
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def bazel_repositories():
    """Declares what Bazel loads for any C++ target (Java's toolchains among it)."""
    _maybe(
        _installed_rules_repository,
        name = "rules_java",
        package = "bazel-rules-java",
        path = "/usr/share/bazel/rules/java",
    )
    _maybe(
        _installed_rules_repository,
        name = "rules_proto",
        package = "bazel-rules-proto",
        path = "/usr/share/bazel/rules/proto",
    )
    _maybe(
        _installed_rules_repository,
        name = "bazel_skylib",
        package = "bazel-skylib",
        path = "/usr/share/bazel/tools/skylib",
    )
    _maybe(
        _files_repository,
        name = "rules_cc",
        files = {Label("//third_party/system/shims:rules_cc_defs.bzl"): "cc/defs.bzl"},
    )
    _maybe(
        _files_repository,
        name = "remote_coverage_tools",
        files = {Label("//third_party/system:coverage_tools.BUILD"): "BUILD.bazel"},
    )
