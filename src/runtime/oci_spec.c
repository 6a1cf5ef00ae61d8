#include "runtime/oci.h"

#include "base/fd.h"
#include "base/opt.h"
#include "base/str.h"
#include "kernel/caps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What `spec` writes: runc's starting point. */
static const char starting_point[] =
	"{\n\t\"ociVersion\": \"1.0.2\",\n"
	"\t\"process\": {\n\t\t\"terminal\": true,\n\t\t\"user\": { \"uid\": 0, \"gid\": 0 },\n"
	"\t\t\"args\": [ \"sh\" ],\n"
	"\t\t\"env\": [ \"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\", \"TERM=xterm\" ],\n"
	"\t\t\"cwd\": \"/\",\n\t\t\"capabilities\": {\n"
	"\t\t\t\"bounding\": [ \"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\" ],\n"
	"\t\t\t\"effective\": [ \"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\" ],\n"
	"\t\t\t\"permitted\": [ \"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\" ]\n\t\t},\n"
	"\t\t\"rlimits\": [ { \"type\": \"RLIMIT_NOFILE\", \"hard\": 1024, \"soft\": 1024 } ],\n"
	"\t\t\"noNewPrivileges\": true\n\t},\n"
	"\t\"root\": { \"path\": \"rootfs\", \"readonly\": true },\n\t\"hostname\": \"knarr\",\n"
	"\t\"mounts\": [\n"
	"\t\t{ \"destination\": \"/proc\", \"type\": \"proc\", \"source\": \"proc\" },\n"
	"\t\t{ \"destination\": \"/dev\", \"type\": \"tmpfs\", \"source\": \"tmpfs\",\n"
	"\t\t  \"options\": [ \"nosuid\", \"strictatime\", \"mode=755\", \"size=65536k\" ] },\n"
	"\t\t{ \"destination\": \"/dev/pts\", \"type\": \"devpts\", \"source\": \"devpts\",\n"
	"\t\t  \"options\": [ \"nosuid\", \"noexec\", \"newinstance\", \"ptmxmode=0666\", \"mode=0620\", \"gid=5\" ] },\n"
	"\t\t{ \"destination\": \"/dev/shm\", \"type\": \"tmpfs\", \"source\": \"shm\",\n"
	"\t\t  \"options\": [ \"nosuid\", \"noexec\", \"nodev\", \"mode=1777\", \"size=65536k\" ] },\n"
	"\t\t{ \"destination\": \"/dev/mqueue\", \"type\": \"mqueue\", \"source\": \"mqueue\",\n"
	"\t\t  \"options\": [ \"nosuid\", \"noexec\", \"nodev\" ] },\n"
	"\t\t{ \"destination\": \"/sys\", \"type\": \"sysfs\", \"source\": \"sysfs\",\n"
	"\t\t  \"options\": [ \"nosuid\", \"noexec\", \"nodev\", \"ro\" ] },\n"
	"\t\t{ \"destination\": \"/sys/fs/cgroup\", \"type\": \"cgroup\", \"source\": \"cgroup\",\n"
	"\t\t  \"options\": [ \"nosuid\", \"noexec\", \"nodev\", \"relatime\", \"ro\" ] }\n\t],\n"
	"\t\"linux\": {\n"
	"\t\t\"resources\": { \"devices\": [ { \"allow\": false, \"access\": \"rwm\" } ] },\n"
	"\t\t\"namespaces\": [ { \"type\": \"pid\" }, { \"type\": \"network\" }, { \"type\": \"ipc\" },\n"
	"\t\t  { \"type\": \"uts\" }, { \"type\": \"mount\" }, { \"type\": \"cgroup\" } ],\n"
	"\t\t\"maskedPaths\": [ \"/proc/acpi\", \"/proc/asound\", \"/proc/kcore\", \"/proc/keys\", \"/proc/latency_stats\",\n"
	"\t\t  \"/proc/timer_list\", \"/proc/timer_stats\", \"/proc/sched_debug\", \"/sys/firmware\", \"/proc/scsi\" ],\n"
	"\t\t\"readonlyPaths\": [ \"/proc/bus\", \"/proc/fs\", \"/proc/irq\", \"/proc/sys\", \"/proc/sysrq-trigger\" ]\n"
	"\t}\n}\n";

int oci_spec_command(struct oci_app *app, char *const *argv, struct err *e)
{
	const char *bundle = ".";
	const struct opt opts[] = { { OPT_STR, 'b', "bundle", &bundle, "PATH", "the bundle's folder" }, { 0 } };
	auto_fd int fd = -1;
	char **words, *path;

	if (opts_parse(&app->arena, opts, 0, argv, &words, e) < 0)
		return -1;
	path = arena_printf(&app->arena, "%s/config.json", bundle);
	if (access(path, F_OK) == 0)
		return err_set(e, ERR_EXISTS, "file %s exists: remove it first", path);
	fd = fd_create(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0666, e);
	return fd < 0 ? -1 : fd_write_all(fd, starting_point, sizeof(starting_point) - 1, e);
}

static void print_words(const char *name, const char *const *words)
{
	(void)printf("\t\"%s\": [", name);
	for (size_t i = 0; words[i]; i++)
		(void)printf("%s\"%s\"", i ? ", " : "", words[i]);
	(void)printf("],\n");
}

int oci_features_command(struct oci_app *app, char *const *argv, struct err *e)
{
	static const char *const hooks[] = { "prestart", "createRuntime", "createContainer", "startContainer",
					     "poststart", "poststop", NULL };
	static const char *const options[] = {
		"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime",
		"loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand",
		"norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev",
		"rdiratime", "relatime", "remount", "rexec", "rnoatime", "rnodev", "rnodiratime", "rnoexec",
		"rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro",
		"rrw", "rshared", "rslave", "rstrictatime", "rsuid", "rsymfollow", "runbindable", "rw", "shared",
		"silent", "slave", "strictatime", "suid", "symfollow", "sync", "unbindable", NULL
	};
	static const char *const actions[] = { "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",
					       "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
					       "SCMP_ACT_TRACE", "SCMP_ACT_TRAP", NULL };

	(void)app;
	if (argv[1])
		return err_set(e, ERR_INVALID, "features: takes no argument");
	(void)printf("{\n\t\"ociVersionMin\": \"1.0.0\",\n\t\"ociVersionMax\": \"%s\",\n", OCI_VERSION);
	print_words("hooks", hooks);
	print_words("mountOptions", options);
	(void)printf("\t\"linux\": {\n\t\"namespaces\": [\"cgroup\", \"ipc\", \"mount\", \"network\", \"pid\", \"uts\"],\n"
		     "\t\"capabilities\": [");
	for (int i = 0; cap_name(i); i++)
		(void)printf("%s\"%s\"", i ? ", " : "", cap_name(i));
	(void)printf("],\n\t\"cgroup\": { \"v1\": true, \"v2\": true, \"systemd\": false, \"systemdUser\": false, "
		     "\"rdma\": true },\n\t\"seccomp\": {\n\t\"enabled\": true,\n");
	print_words("actions", actions);
	(void)printf("\t\"operators\": [\"SCMP_CMP_EQ\", \"SCMP_CMP_GE\", \"SCMP_CMP_GT\", \"SCMP_CMP_LE\", "
		     "\"SCMP_CMP_LT\", \"SCMP_CMP_MASKED_EQ\", \"SCMP_CMP_NE\"],\n"
		     "\t\"archs\": [\"SCMP_ARCH_AARCH64\", \"SCMP_ARCH_ARM\", \"SCMP_ARCH_PPC64LE\", "
		     "\"SCMP_ARCH_RISCV64\", \"SCMP_ARCH_S390X\", \"SCMP_ARCH_X32\", \"SCMP_ARCH_X86\", "
		     "\"SCMP_ARCH_X86_64\"]\n\t},\n"
		     "\t\"apparmor\": { \"enabled\": true },\n\t\"selinux\": { \"enabled\": true },\n"
		     "\t\"intelRdt\": { \"enabled\": false },\n"
		     "\t\"mountExtensions\": { \"idmap\": { \"enabled\": false } }\n\t}\n}\n");
	return 0;
}
