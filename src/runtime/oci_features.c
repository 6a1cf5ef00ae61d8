/* features: what this runtime supports (features.md of the specification), no more and no less. */
#include "runtime/oci.h"

#include "base/fd.h"
#include "base/str.h"
#include "kernel/caps.h"

static int words(struct buf *b, const char *name, const char *const *list, struct err *e)
{
	if (buf_addf(b, e, "\"%s\":[", name) < 0)
		return -1;
	for (size_t i = 0; list[i]; i++)
		if (buf_addf(b, e, "%s\"%s\"", i ? "," : "", list[i]) < 0)
			return -1;
	return buf_addz(b, "],", e);
}

static int general(struct buf *b, struct err *e)
{
	static const char *const hooks[] = { "prestart", "createRuntime", "createContainer", "startContainer",
					     "poststart", "poststop", NULL };
	static const char *const options[] = {
		"acl", "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "idmap", "iversion",
		"lazytime", "loud", "mand", "noacl", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand",
		"norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev",
		"rdiratime", "relatime", "remount", "rexec", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec",
		"rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro",
		"rrw", "rshared", "rslave", "rstrictatime", "rsuid", "rsymfollow", "runbindable", "rw", "shared",
		"silent", "slave", "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable", NULL
	};

	if (buf_addf(b, e, "{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"%s\",", OCI_VERSION) < 0)
		return -1;
	return words(b, "hooks", hooks, e) < 0 ? -1 : words(b, "mountOptions", options, e);
}

static int seccomp(struct buf *b, struct err *e)
{
	static const char *const actions[] = { "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
					       "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
					       "SCMP_ACT_TRAP", NULL };
	static const char *const operators[] = { "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
						 "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", NULL };
	static const char *const archs[] = { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64",
					     "SCMP_ARCH_S390X", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", NULL };
	static const char *const flags[] = { "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
					     "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", NULL };

	if (buf_addz(b, "\"seccomp\":{\"enabled\":true,", e) < 0 || words(b, "actions", actions, e) < 0 ||
	    words(b, "operators", operators, e) < 0 || words(b, "archs", archs, e) < 0 ||
	    words(b, "knownFlags", flags, e) < 0 || words(b, "supportedFlags", flags, e) < 0)
		return -1;
	b->len--; /* the last comma */
	return buf_addz(b, "},", e);
}

static int memory_policy(struct buf *b, struct err *e)
{
	static const char *const modes[] = { "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
					     "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE", NULL };
	static const char *const flags[] = { "MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES", NULL };

	if (buf_addz(b, "\"memoryPolicy\":{", e) < 0 || words(b, "modes", modes, e) < 0 || words(b, "flags", flags, e) < 0)
		return -1;
	b->len--;
	return buf_addz(b, "},", e);
}

static int on_linux(struct buf *b, struct err *e)
{
	static const char *const namespaces[] = { "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts", NULL };
	const char *caps[65] = { 0 };

	for (int i = 0; i < 64 && cap_name(i); i++)
		caps[i] = cap_name(i);
	if (buf_addz(b, "\"linux\":{", e) < 0 || words(b, "namespaces", namespaces, e) < 0 ||
	    words(b, "capabilities", caps, e) < 0 ||
	    buf_addz(b, "\"cgroup\":{\"v1\":true,\"v2\":true,\"systemd\":true,\"systemdUser\":false,\"rdma\":true},", e) < 0 ||
	    seccomp(b, e) < 0 ||
	    buf_addz(b, "\"apparmor\":{\"enabled\":true},\"selinux\":{\"enabled\":true},"
		     "\"intelRdt\":{\"enabled\":true,\"schemata\":true,\"monitoring\":true},", e) < 0 ||
	    memory_policy(b, e) < 0)
		return -1;
	return buf_addz(b, "\"mountExtensions\":{\"idmap\":{\"enabled\":true}},\"netDevices\":{\"enabled\":true}},", e);
}

int oci_features_command(struct oci_app *app, char *const *argv, struct err *e)
{
	static const struct opt none[] = { { 0 } };
	auto_buf b = BUF(1 << 16), pretty = BUF(1 << 18);
	char **left;

	if (oci_options(app, none, 0, argv, &left, e) < 0)
		return -1;
	if (left[0])
		return err_set(e, ERR_INVALID, "features: takes no argument");
	if (general(&b, e) < 0 || on_linux(&b, e) < 0 ||
	    buf_addf(&b, e, "\"annotations\":{\"io.knarr.version\":\"%s\"},", KNARR_VERSION) < 0 ||
	    buf_addz(&b, "\"potentiallyUnsafeConfigAnnotations\":[\"run.oci.hooks.stdout\",\"run.oci.hooks.stderr\","
		     "\"run.oci.pidfd_receiver\",\"run.oci.seccomp.receiver\",\"run.oci.keep_original_groups\"]}", e) < 0 ||
	    oci_json_indent(&pretty, buf_str(&b), "    ", e) < 0 || buf_addz(&pretty, "\n", e) < 0)
		return -1;
	return fd_write_all(1, pretty.p, pretty.len, e);
}
