#include "runtime/oci.h"

#include "base/fd.h"
#include "base/opt.h"
#include "base/str.h"

#include <fcntl.h>
#include <unistd.h>

/* What `spec` writes: runc's starting point. */
static const char starting_point[] =
	"{\n\t\"ociVersion\": \"" OCI_VERSION "\",\n"
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

/* On cgroup v1 without a cgroup namespace, as with runc: tools look for a container's cgroup by its own /proc. */
static const char *starting_text(struct arena *a)
{
	static const char cgroup_ns[] = ", { \"type\": \"cgroup\" }";
	const char *at = strstr(starting_point, cgroup_ns);

	if (!at || access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
		return starting_point;
	return arena_printf(a, "%.*s%s", (int)(at - starting_point), starting_point, at + strlen(cgroup_ns));
}

/* What a user without privileges may have: a user namespace with one id, the host's network, no limits. */
static void to_rootless(struct arena *a, struct oci_config *c)
{
	static const char *const sys_options[] = { "rbind", "nosuid", "noexec", "nodev", "ro", NULL };
	struct oci_idmap *maps = arena_newn0(a, struct oci_idmap, 2);

	OCI_EACH(oci_namespace, n, c->on_linux->namespaces)
		if (streq(n->type, "network"))
			n->type = (char *)"user";
	maps[0] = (struct oci_idmap){ 0, geteuid(), 1 };
	maps[1] = (struct oci_idmap){ 0, getegid(), 1 };
	c->on_linux->uid_mappings = (struct json_vec){ &maps[0], 1 };
	c->on_linux->gid_mappings = (struct json_vec){ &maps[1], 1 };
	c->on_linux->resources = NULL;
	OCI_EACH(oci_mount, m, c->mounts) {
		char **kept = NULL;

		/* The group of terminals is not in the map. */
		for (char **o = m->options; o && *o; o++)
			if (!starts_with(*o, "gid=") && !starts_with(*o, "uid="))
				kept = strv_append(a, kept, *o);
		m->options = kept;
		if (!streq(m->destination, "/sys"))
			continue;
		m->type = (char *)"none";
		m->source = (char *)"/sys";
		m->options = (char **)sys_options;
	}
}

static int rootless_text(struct arena *a, struct buf *out, struct err *e)
{
	auto_buf compact = BUF(1 << 16);
	struct oci_config c;

	if (oci_config_read(a, str_of(starting_text(a)), &c, e) < 0)
		return -1;
	to_rootless(a, &c);
	if (oci_config_write(&compact, &c, e) < 0 || oci_json_indent(out, buf_str(&compact), "\t", e) < 0)
		return -1;
	return buf_addz(out, "\n", e);
}

int oci_spec_command(struct oci_app *app, char *const *argv, struct err *e)
{
	const char *bundle = ".";
	bool rootless = false;
	const struct opt opts[] = {
		{ OPT_STR, 'b', "bundle", &bundle, "PATH", "the bundle's folder" },
		{ OPT_FLAG, 0, "rootless", &rootless, NULL, "for a user without privileges" },
		{ 0 },
	};
	auto_buf text = BUF(1 << 17);
	auto_fd int fd = -1;
	char **words, *path;

	if (oci_options(app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (words[0])
		return err_set(e, ERR_INVALID, "spec: takes no argument");
	path = arena_printf(&app->arena, "%s/config.json", bundle);
	if (access(path, F_OK) == 0)
		return err_set(e, ERR_EXISTS, "file %s exists: remove it first", path);
	if ((rootless ? rootless_text(&app->arena, &text, e) : buf_addz(&text, starting_text(&app->arena), e)) < 0)
		return -1;
	fd = fd_create(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0666, e);
	return fd < 0 ? -1 : fd_write_all(fd, text.p, text.len, e);
}
