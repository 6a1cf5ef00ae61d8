#include "pod/container_facts.h"

#include "base/fs.h"
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define V(...) ((char *[]){ __VA_ARGS__, NULL })
#define VEC(type, ...) { (struct type[]){ __VA_ARGS__ }, ARRAY_SIZE(((struct type[]){ __VA_ARGS__ })) }

/* A pod, a container, an image and a machine, as plain as they can be; tests change what they are about. */
struct fixture {
	struct arena a;
	struct container_facts facts;
	struct pod_config pod;
	struct container_config config;
	struct config_resources resources;
	struct image_config image;
	struct container_spec_input in;
	struct container_spec_result out;
	struct err e;
};

static void fixture_free(struct fixture *f)
{
	arena_free(&f->a);
}
#define FIXTURE(f) AUTO(fixture_free) struct fixture f = { 0 }; fixture_begin(&f)

static void fixture_begin(struct fixture *f)
{
	static char *sh[] = { "sh", NULL };
	struct container_facts machine;

	assert_ok(container_facts_read(&f->a, &machine, &f->e), f->e);
	f->facts = (struct container_facts){ .capabilities = machine.capabilities, .kernel_major = 6,
					     .kernel_minor = 1, .hostname = "node", .seccomp_supported = true,
					     .swap_supported = true, .hugetlb_supported = true };
	f->pod = (struct pod_config){ .name = "web", .namespace_ = "default", .uid = "u-1", .hostname = "web-0" };
	f->config = (struct container_config){ .name = "c", .image = "busybox", .command = sh,
					       .namespaces = { .pid = CONFIG_NS_CONTAINER } };
	f->in = (struct container_spec_input){
		.facts = &f->facts, .container_id = "cid", .pod_id = "pid", .pod = &f->pod,
		.config = &f->config, .image = &f->image, .cgroup_path = "/kubepods/pod1/cid", .monitor_pid = 42,
		.passwd = STR("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/:\n# no line\nbad:x:y:z\n"),
		.group = STR("root:x:0:\nweb:x:1001:\nlogs:x:2000:other,web\nmore:x:2001: web \n"),
	};
}

static struct oci_config *build(struct fixture *f)
{
	assert_ok(container_spec_build(&f->a, &f->in, &f->out, &f->e), f->e);
	return f->out.config;
}

#define assert_refused(f, kind, text) assert_err(container_spec_build(&(f).a, &(f).in, &(f).out, &(f).e), (f).e, kind, text)

static const char *joined(struct arena *a, char *const *v)
{
	const char *all = "";

	for (; v && *v; v++)
		all = arena_printf(a, "%s%s%s", all, *all ? " " : "", *v);
	return all;
}

static const struct oci_mount *mount_at(const struct oci_config *c, const char *destination)
{
	OCI_EACH(oci_mount, m, c->mounts) {
		if (streq(m->destination, destination))
			return m;
	}
	return NULL;
}

TEST(command_and_arguments_follow_the_rules_of_kubernetes)
{
	const struct {
		char *const *entrypoint, *const *cmd, *const *command, *const *args;
		const char *want; /* NULL: refused */
	} rows[] = {
		{ V("/ep"), V("a"), NULL, NULL, "/ep a" },
		{ V("/ep"), V("a"), NULL, V("x", "y"), "/ep x y" },
		{ V("/ep"), V("a"), V("/c"), NULL, "/c" },
		{ V("/ep"), V("a"), V("/c"), V("x"), "/c x" },
		{ NULL, V("a"), NULL, NULL, "a" },
		{ NULL, V("a"), NULL, V("x"), "x" },
		{ V(""), V("a"), NULL, NULL, "a" },
		{ V("/ep"), NULL, NULL, NULL, "/ep" },
		{ NULL, NULL, NULL, NULL, NULL },
		{ V(""), NULL, NULL, NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FIXTURE(f);
		f.image.entrypoint = (char **)rows[i].entrypoint;
		f.image.cmd = (char **)rows[i].cmd;
		f.config.command = (char **)rows[i].command;
		f.config.args = (char **)rows[i].args;
		if (rows[i].want)
			assert_string_equal(joined(&f.a, build(&f)->process->args), rows[i].want);
		else
			assert_refused(f, ERR_INVALID, "no command");
	}
}

TEST(environment_is_merged_in_order_and_values_are_bytes)
{
	FIXTURE(f);
	f.config.tty = true;
	f.image.env = V("PATH=/image", "A=1", "B=2", "nonsense", "=bad");
	f.config.envs = (struct json_vec)VEC(config_env, { "B", "\xff\xfe" }, { "C", "x=y" }, { "A", "" },
					     { "HOSTNAME", "mine" });
	assert_string_equal(joined(&f.a, build(&f)->process->env),
			    "PATH=/image TERM=xterm HOSTNAME=mine A= B=\xff\xfe C=x=y HOME=/root");
	assert_true(f.out.config->process->terminal);
}

TEST(environment_has_a_path_and_the_hostname)
{
	FIXTURE(f);
	assert_string_equal(joined(&f.a, build(&f)->process->env),
			    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOSTNAME=web-0 HOME=/root");
	f.pod.hostname = "";
	assert_true(strv_has(build(&f)->process->env, "HOSTNAME=node"));
}

TEST(home_is_the_users_where_nobody_says_it)
{
	FIXTURE(f);
	int64_t uid = 4242;

	f.config.run_as_username = (char *)"web";
	assert_true(strv_has(build(&f)->process->env, "HOME=/"));
	f.config.run_as_username = NULL;
	f.config.run_as_user = &uid; /* of nobody */
	assert_true(strv_has(build(&f)->process->env, "HOME=/"));
	f.config.run_as_user = NULL;
	assert_true(strv_has(build(&f)->process->env, "HOME=/root"));
	f.image.env = V("HOME=/srv");
	assert_true(strv_has(build(&f)->process->env, "HOME=/srv"));
	assert_false(strv_has(build(&f)->process->env, "HOME=/root"));
}

TEST(environment_names_are_checked)
{
	FIXTURE(f);
	f.config.envs = (struct json_vec)VEC(config_env, { "A=B", "x" });
	assert_refused(f, ERR_INVALID, "envs[0].key");
}

TEST(working_directory_is_the_callers_or_the_images)
{
	FIXTURE(f);
	assert_string_equal(build(&f)->process->cwd, "/");
	f.image.workdir = "srv//www";
	assert_string_equal(build(&f)->process->cwd, "/srv/www");
	f.config.working_dir = "/tmp";
	assert_string_equal(build(&f)->process->cwd, "/tmp");
}

#define NUM(n) (&(int64_t){ n })

TEST(user_is_resolved_as_kubernetes_says)
{
	const struct {
		const char *image, *username;
		const int64_t *uid, *gid;
		bool strict;
		const char *want; /* "uid:gid groups…", or '!' and a part of the error */
	} rows[] = {
		{ NULL, NULL, NULL, NULL, false, "0:0 0" },
		{ "web", NULL, NULL, NULL, false, "1000:1001 1001 2000 2001" },
		{ "web", NULL, NULL, NULL, true, "1000:1001 1001" },
		{ "1000", NULL, NULL, NULL, false, "1000:1001 1001 2000 2001" },
		{ "1234", NULL, NULL, NULL, false, "1234:0 0" },
		{ "1234:5678", NULL, NULL, NULL, false, "1234:5678 5678" },
		{ "web:logs", NULL, NULL, NULL, true, "1000:2000 2000" },
		{ ":logs", NULL, NULL, NULL, true, "0:2000 2000" },
		{ "web", NULL, NUM(0), NULL, false, "0:0 0" },
		{ "web", NULL, NUM(1000), NUM(7), true, "1000:7 7" },
		{ NULL, "web", NULL, NULL, true, "1000:1001 1001" },
		{ NULL, "web", NULL, NUM(9), true, "1000:9 9" },
		{ NULL, "nobody", NULL, NULL, false, "!user \"nobody\" is not in the image's /etc/passwd" },
		{ "web:nogroup", NULL, NULL, NULL, false, "!group \"nogroup\" is not in the image's /etc/group" },
		{ "ghost", NULL, NULL, NULL, false, "!user \"ghost\"" },
		{ NULL, NULL, NULL, NUM(5), false, "!run_as_group" },
		{ NULL, NULL, NUM(-1), NULL, false, "!user -1 is not between" },
		{ NULL, NULL, NUM(1LL << 32), NULL, false, "!user 4294967296 is not between" },
		{ "99999999999", NULL, NULL, NULL, false, "!user 99999999999" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FIXTURE(f);
		const struct oci_user *user;
		const char *got;

		f.image.user = (char *)rows[i].image;
		f.config.run_as_username = (char *)rows[i].username;
		f.config.run_as_user = (int64_t *)rows[i].uid;
		f.config.run_as_group = (int64_t *)rows[i].gid;
		f.config.groups_policy = rows[i].strict ? CONFIG_GROUPS_STRICT : CONFIG_GROUPS_MERGE;
		if (rows[i].want[0] == '!') {
			assert_refused(f, ERR_INVALID, rows[i].want + 1);
			continue;
		}
		user = &build(&f)->process->user;
		got = arena_printf(&f.a, "%u:%u", user->uid, user->gid);
		for (size_t g = 0; g < user->additional_gids.count; g++)
			got = arena_printf(&f.a, "%s %u", got, ((uint32_t *)user->additional_gids.p)[g]);
		assert_string_equal(got, rows[i].want);
	}
}

TEST(supplemental_groups_are_sorted_and_unique)
{
	FIXTURE(f);
	int64_t groups[] = { 3000, 2000, 3000 };
	const uint32_t *got;

	f.config.run_as_user = NUM(1000);
	f.config.supplemental_groups = (struct json_vec){ groups, 3 };
	got = build(&f)->process->user.additional_gids.p;
	assert_int_equal(f.out.config->process->user.additional_gids.count, 4);
	assert_int_equal(got[0], 1001);
	assert_int_equal(got[1], 2000);
	assert_int_equal(got[2], 2001);
	assert_int_equal(got[3], 3000);
	groups[0] = -5;
	assert_refused(f, ERR_INVALID, "supplemental_groups: -5");
}

#define DEFAULT_CAPS "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID "         \
	"CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP"

TEST(capabilities_are_dockers_with_what_is_added_and_dropped)
{
	const struct {
		char *const *add, *const *drop, *const *ambient;
		const char *bounding, *inheritable;
	} rows[] = {
		{ NULL, NULL, NULL, DEFAULT_CAPS, "" },
		{ NULL, V("ALL"), NULL, "", "" },
		{ V("NET_ADMIN"), V("all"), NULL, "CAP_NET_ADMIN", "" },
		{ V("cap_sys_time"), V("ALL"), NULL, "CAP_SYS_TIME", "" },
		{ V("SYS_TIME"), V("ALL", "SYS_TIME"), NULL, "", "" },
		{ NULL, V("ALL"), V("NET_BIND_SERVICE"), "CAP_NET_BIND_SERVICE", "CAP_NET_BIND_SERVICE" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FIXTURE(f);
		const struct oci_capabilities *c;

		f.config.add_capabilities = (char **)rows[i].add;
		f.config.drop_capabilities = (char **)rows[i].drop;
		f.config.add_ambient_capabilities = (char **)rows[i].ambient;
		c = build(&f)->process->capabilities;
		assert_string_equal(joined(&f.a, c->bounding), rows[i].bounding);
		assert_string_equal(joined(&f.a, c->effective), rows[i].bounding);
		assert_string_equal(joined(&f.a, c->permitted), rows[i].bounding);
		assert_string_equal(joined(&f.a, c->inheritable), rows[i].inheritable);
		assert_string_equal(joined(&f.a, c->ambient), rows[i].inheritable);
	}
}

TEST(all_capabilities_are_those_of_this_kernel)
{
	FIXTURE(f);
	f.facts.capabilities = V("CAP_CHOWN", "CAP_SYS_ADMIN");
	f.config.add_capabilities = V("ALL", "BPF");
	assert_string_equal(joined(&f.a, build(&f)->process->capabilities->bounding), "CAP_CHOWN CAP_SYS_ADMIN");
	f.config.add_capabilities = V("NO_SUCH");
	assert_refused(f, ERR_INVALID, "add_capabilities: there is no capability \"NO_SUCH\"");
}

TEST(privileged_lifts_everything)
{
	FIXTURE(f);
	struct container_spec_device host[] = {
		{ .path = "/dev/null", .type = 'c', .major = 1, .minor = 3 },
		{ .path = "/dev/sda", .type = 'b', .major = 8, .minor = 0, .file_mode = 0660, .gid = 6 },
	};
	const struct oci_linux *l;

	f.config.privileged = true;
	f.config.masked_paths = V("/proc/kcore");
	f.config.readonly_paths = V("/proc/sys");
	f.config.seccomp = &(struct config_profile){ CONFIG_PROFILE_DEFAULT, NULL };
	f.facts.apparmor_supported = f.facts.cgroup_v2 = true;
	f.facts.apparmor_default = "knarr-default";
	f.in.host_devices = host;
	f.in.nhost_devices = 2;
	assert_refused(f, ERR_INVALID, "privileged: the container's pod is not");
	f.pod.privileged = true;
	l = build(&f)->on_linux;
	assert_string_equal(joined(&f.a, f.out.config->process->capabilities->bounding),
			    joined(&f.a, f.facts.capabilities));
	assert_null(l->masked_paths);
	assert_null(l->readonly_paths);
	assert_null(l->seccomp);
	assert_null(f.out.config->process->apparmor_profile);
	assert_null(oci_namespace_find(f.out.config, "cgroup"));
	assert_true(strv_has(mount_at(f.out.config, "/sys")->options, "rw"));
	assert_true(strv_has(mount_at(f.out.config, "/sys/fs/cgroup")->options, "rw"));
	assert_int_equal(l->devices.count, 1);
	assert_string_equal(((struct oci_device *)l->devices.p)->path, "/dev/sda");
	assert_int_equal(l->resources->devices.count, 1);
	assert_true(((struct oci_device_rule *)l->resources->devices.p)->allow);
}

TEST(unprivileged_is_confined)
{
	FIXTURE(f);
	const struct oci_linux *l;

	f.config.masked_paths = V("/proc/kcore");
	f.config.readonly_paths = V("/proc/sys");
	f.config.no_new_privs = f.config.readonly_rootfs = true;
	f.facts.apparmor_supported = f.facts.cgroup_v2 = true;
	f.facts.apparmor_default = "knarr-default";
	l = build(&f)->on_linux;
	assert_string_equal(l->masked_paths[0], "/proc/kcore");
	assert_string_equal(l->readonly_paths[0], "/proc/sys");
	assert_string_equal(f.out.config->process->apparmor_profile, "knarr-default");
	assert_true(f.out.config->process->no_new_privileges);
	assert_true(f.out.config->root->readonly);
	assert_non_null(oci_namespace_find(f.out.config, "cgroup"));
	assert_true(strv_has(mount_at(f.out.config, "/sys")->options, "ro"));
	assert_true(strv_has(mount_at(f.out.config, "/sys/fs/cgroup")->options, "ro"));
	assert_false(((struct oci_device_rule *)l->resources->devices.p)->allow);
	f.config.masked_paths = V("proc/kcore");
	assert_refused(f, ERR_INVALID, "masked_paths: \"proc/kcore\" is not absolute");
}

TEST(mounts_go_in_order_of_depth_and_replace_the_basic_ones)
{
	FIXTURE(f);
	const struct oci_mount *m;
	size_t a, b;

	f.config.mounts = (struct json_vec)VEC(
		config_mount,
		{ .container_path = "/data/deep/", .host_path = "/h/deep", .readonly = true },
		{ .container_path = "/data", .host_path = "/h/data", .propagation = CONFIG_HOST_TO_CONTAINER },
		{ .container_path = "etc/hosts", .host_path = "/h/hosts" },
		{ .container_path = "/dev/shm", .host_path = "/h/shm", .options = V("noexec", "nodev", "noexec") });
	f.in.hosts_path = "/pod/hosts";
	f.in.hostname_path = "/pod/hostname";
	f.in.resolv_conf_path = "/pod/resolv.conf";
	f.in.shm_path = "/pod/shm";
	f.config.readonly_rootfs = true;
	build(&f);
	m = f.out.config->mounts.p;
	a = f.out.mount_at[0];
	b = f.out.mount_at[1];
	assert_true(b < a);
	assert_string_equal(m[a].destination, "/data/deep");
	assert_string_equal(joined(&f.a, m[a].options), "rbind rprivate ro");
	assert_string_equal(joined(&f.a, m[b].options), "rbind rslave rw");
	assert_string_equal(mount_at(f.out.config, "/etc/hosts")->source, "/h/hosts");
	assert_string_equal(mount_at(f.out.config, "/dev/shm")->source, "/h/shm");
	assert_string_equal(joined(&f.a, mount_at(f.out.config, "/dev/shm")->options),
			    "rbind rprivate rw noexec nodev");
	assert_string_equal(joined(&f.a, mount_at(f.out.config, "/etc/hostname")->options), "rbind rprivate ro");
	assert_string_equal(mount_at(f.out.config, "/etc/resolv.conf")->source, "/pod/resolv.conf");
	assert_string_equal(f.out.config->on_linux->rootfs_propagation, "rslave");
}

TEST(a_wished_dev_takes_all_of_dev)
{
	FIXTURE(f);
	f.config.mounts = (struct json_vec)VEC(config_mount, { .container_path = "/dev", .host_path = "/dev",
							       .propagation = CONFIG_BIDIRECTIONAL });
	build(&f);
	assert_string_equal(mount_at(f.out.config, "/dev")->type, "bind");
	assert_null(mount_at(f.out.config, "/dev/pts"));
	assert_null(mount_at(f.out.config, "/dev/mqueue"));
	assert_string_equal(f.out.config->on_linux->rootfs_propagation, "rshared");
}

TEST(bad_mounts_are_refused_by_name)
{
	const struct {
		struct config_mount m;
		const char *text;
	} rows[] = {
		{ { .host_path = "/h" }, "container_path is empty" },
		{ { .container_path = "/", .host_path = "/h" }, "the root itself" },
		{ { .container_path = "/x" }, "mount /x: host_path" },
		{ { .container_path = "/x", .host_path = "h" }, "not absolute" },
		{ { .container_path = "/x", .host_path = "/h", .recursive_readonly = true }, "without readonly" },
		{ { .container_path = "/x", .host_path = "/h", .recursive_readonly = true, .readonly = true,
		    .propagation = CONFIG_HOST_TO_CONTAINER }, "private propagation" },
		{ { .container_path = "/x", .host_path = "/h", .options = V("suid") }, "\"suid\" is none of" },
		{ { .container_path = "/x", .host_path = "/h", .propagation = 9 }, "propagation: unknown" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FIXTURE(f);
		struct config_mount m = rows[i].m;

		f.config.mounts = (struct json_vec){ &m, 1 };
		assert_refused(f, ERR_INVALID, rows[i].text);
	}
}

TEST(mounts_may_be_recursively_read_only_idmapped_or_an_image)
{
	FIXTURE(f);
	const char *sources[] = { NULL, "/images/x" };
	const struct oci_mount *m;

	f.config.mounts = (struct json_vec)VEC(
		config_mount,
		{ .container_path = "/a", .host_path = "/h", .readonly = true, .recursive_readonly = true,
		  .uid_maps = VEC(config_id_map, { 100000, 0, 65536 }) },
		{ .container_path = "/b", .image = "busybox" });
	f.in.mount_sources = sources;
	build(&f);
	m = mount_at(f.out.config, "/a");
	assert_string_equal(joined(&f.a, m->options), "rbind rprivate rro");
	assert_int_equal(m->uid_mappings.count, 1);
	assert_int_equal(((struct oci_idmap *)m->uid_mappings.p)->host_id, 100000);
	assert_string_equal(mount_at(f.out.config, "/b")->source, "/images/x");
	assert_string_equal(joined(&f.a, mount_at(f.out.config, "/b")->options), "rbind rprivate nodev rro");
}

TEST(a_user_namespace_is_the_pods_with_its_maps)
{
	FIXTURE(f);
	struct config_userns pods = { .uids = VEC(config_id_map, { 300000, 0, 65536 }), .gids = VEC(config_id_map, { 400000, 0, 65536 }) },
			     others = { .uids = VEC(config_id_map, { 1, 0, 2 }), .gids = pods.gids }, node = { .mode = CONFIG_NS_NODE };

	f.in.userns_fd_number = 200;
	f.pod.namespaces.userns = &pods;
	assert_string_equal(oci_namespace_find(build(&f), "user")->path, "/proc/42/fd/200");
	assert_int_equal(((struct oci_idmap *)f.out.config->on_linux->uid_mappings.p)->host_id, 300000);
	assert_int_equal(((struct oci_idmap *)f.out.config->on_linux->gid_mappings.p)->host_id, 400000);
	assert_string_equal(mount_at(f.out.config, "/sys")->type, "sysfs");
	f.config.namespaces.userns = &pods;
	f.pod.namespaces.network = CONFIG_NS_NODE;
	build(&f);
	assert_string_equal(mount_at(f.out.config, "/sys")->source, "/sys");
	assert_string_equal(joined(&f.a, mount_at(f.out.config, "/sys")->options), "bind rprivate nosuid noexec nodev ro");
	f.config.namespaces.userns = &others;
	assert_refused(f, ERR_INVALID, "are not its pod's");
	f.config.namespaces.userns = &node;
	assert_refused(f, ERR_INVALID, "are not its pod's");
	f.config.namespaces.userns = NULL;
	f.config.namespaces.pid = CONFIG_NS_NODE;
	assert_refused(f, ERR_INVALID, "PID or IPC namespace");
}

TEST(namespaces_are_the_pods_or_new_or_the_hosts)
{
	FIXTURE(f);
	const struct oci_config *c = build(&f);

	assert_string_equal(oci_namespace_find(c, "network")->path, "/proc/42/ns/net");
	assert_string_equal(oci_namespace_find(c, "ipc")->path, "/proc/42/ns/ipc");
	assert_string_equal(oci_namespace_find(c, "uts")->path, "/proc/42/ns/uts");
	assert_null(oci_namespace_find(c, "pid")->path);
	assert_null(oci_namespace_find(c, "mount")->path);
	assert_null(oci_namespace_find(c, "cgroup"));
	f.config.namespaces.pid = CONFIG_NS_NODE;
	assert_null(oci_namespace_find(build(&f), "pid"));
	f.config.namespaces.pid = CONFIG_NS_POD;
	f.in.init_pid = 43;
	assert_string_equal(oci_namespace_find(build(&f), "pid")->path, "/proc/43/ns/pid");
	f.config.namespaces.pid = CONFIG_NS_TARGET;
	f.config.namespaces.target_id = "abc";
	assert_refused(f, ERR_STATE, "target_id: container abc does not run");
	f.in.target_pid = 44;
	assert_string_equal(oci_namespace_find(build(&f), "pid")->path, "/proc/44/ns/pid");
	f.config.namespaces.pid = CONFIG_NS_POD;
	f.in.init_pid = 0;
	assert_null(oci_namespace_find(build(&f), "pid")->path); /* never the host's by accident */
	f.pod.namespaces.pid = CONFIG_NS_NODE;
	assert_null(oci_namespace_find(build(&f), "pid"));
}

TEST(resources_become_cgroup_limits)
{
	FIXTURE(f);
	const struct oci_resources *r;

	f.facts.pids_limit = 100;
	f.config.resources = &f.resources;
	f.resources = (struct config_resources){
		.cpu_period_us = 100000, .cpu_quota_us = 50000, .cpu_shares = 512, .memory_bytes = 1 << 30,
		.oom_score_adj = -997, .cpuset_cpus = "0-1", .cpuset_mems = "0",
		.hugepages = VEC(config_hugepage, { "2MB", 4 << 20 }),
	};
	r = build(&f)->on_linux->resources;
	assert_int_equal(*r->cpu->period, 100000);
	assert_int_equal(*r->cpu->quota, 50000);
	assert_int_equal(*r->cpu->shares, 512);
	assert_string_equal(r->cpu->cpus, "0-1");
	assert_string_equal(r->cpu->mems, "0");
	assert_int_equal(*r->memory->limit, 1 << 30);
	assert_int_equal(*r->memory->swap, 1 << 30);
	assert_int_equal(r->hugepage_limits.count, 1);
	assert_int_equal(*r->pids->limit, 100);
	assert_int_equal(*f.out.config->process->oom_score_adj, -997);
	assert_string_equal(f.out.config->on_linux->cgroups_path, "/kubepods/pod1/cid");
	f.resources.memory_swap_bytes = 2LL << 30;
	assert_int_equal(*build(&f)->on_linux->resources->memory->swap, 2LL << 30);
	f.facts.swap_supported = false;
	assert_null(build(&f)->on_linux->resources->memory->swap);
}

TEST(unified_resources_are_for_cgroup_v2_and_its_controllers)
{
	FIXTURE(f);
	struct json_pair pair = { "memory.high", "1000" };

	f.config.resources = &f.resources;
	f.resources.unified = (struct json_map){ &pair, 1 };
	assert_refused(f, ERR_INVALID, "unified \"memory.high\": this machine runs on cgroup v1");
	f.facts.cgroup_v2 = true;
	assert_string_equal(json_map_get(&build(&f)->on_linux->resources->unified, "memory.high"), "1000");
	pair.key = "../memory.high";
	assert_refused(f, ERR_INVALID, "no controller's file");
	pair.key = "cgroup.procs";
	assert_refused(f, ERR_INVALID, "no controller's file");
}

TEST(bad_resources_are_refused_by_name)
{
	const struct {
		struct config_resources r;
		const char *text;
	} rows[] = {
		{ { .cpu_period_us = -1 }, "cpu_period is -1" },
		{ { .cpu_quota_us = -2 }, "cpu_quota is -2" },
		{ { .cpu_shares = -1 }, "cpu_shares" },
		{ { .memory_bytes = -2 }, "memory_limit_in_bytes" },
		{ { .memory_bytes = 100, .memory_swap_bytes = 50 }, "is less than memory_limit_in_bytes" },
		{ { .oom_score_adj = 1001 }, "more than 1000" },
		{ { .oom_score_adj = -1001 }, "oom_score_adj" },
		{ { .hugepages = VEC(config_hugepage, { NULL, 1 }) }, "page_size is empty" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FIXTURE(f);
		f.resources = rows[i].r;
		f.config.resources = &f.resources;
		assert_refused(f, ERR_INVALID, rows[i].text);
	}
}

TEST(devices_come_with_their_rules)
{
	FIXTURE(f);
	struct container_spec_device d = { .path = "/dev/fuse", .access = "rw", .type = 'c', .major = 10,
					   .minor = 229, .file_mode = 0666, .uid = 0, .gid = 0 };
	const struct oci_linux *l;
	const struct oci_device_rule *last;

	f.in.devices = &d;
	f.in.ndevices = 1;
	l = build(&f)->on_linux;
	assert_int_equal(l->devices.count, 1);
	assert_int_equal(((struct oci_device *)l->devices.p)->minor, 229);
	last = (const struct oci_device_rule *)l->resources->devices.p + l->resources->devices.count - 1;
	assert_true(last->allow);
	assert_string_equal(last->access, "rw");
	assert_int_equal(*last->major, 10);
	d.access = "rwx";
	assert_refused(f, ERR_INVALID, "device /dev/fuse: permissions \"rwx\"");
}

static bool allows(const struct oci_seccomp *s, const char *name)
{
	OCI_EACH(oci_syscall_rule, r, s->syscalls) {
		if (strv_has(r->names, name) && streq(r->action, "SCMP_ACT_ALLOW"))
			return true;
	}
	return false;
}

TEST(seccomp_default_follows_the_capabilities)
{
	FIXTURE(f);
	const struct oci_seccomp *s;

	f.config.seccomp = &(struct config_profile){ CONFIG_PROFILE_DEFAULT, NULL };
	s = build(&f)->on_linux->seccomp;
	assert_string_equal(s->default_action, "SCMP_ACT_ERRNO");
	assert_true(allows(s, "read"));
	assert_true(allows(s, "ptrace"));
	assert_true(allows(s, "chroot"));
	assert_true(allows(s, "clone"));
	assert_false(allows(s, "mount"));
	assert_false(allows(s, "bpf"));
	assert_false(allows(s, "io_uring_setup"));
	assert_false(allows(s, "clone3"));
	f.config.add_capabilities = V("SYS_ADMIN");
	f.config.drop_capabilities = V("SYS_CHROOT");
	s = build(&f)->on_linux->seccomp;
	assert_true(allows(s, "mount"));
	assert_true(allows(s, "clone3"));
	assert_false(allows(s, "chroot"));
}

TEST(seccomp_localhost_is_read_with_its_conditions)
{
	FIXTURE(f);
	struct config_profile wish = { CONFIG_PROFILE_LOCALHOST, "/p.json" };
	const struct oci_seccomp *s;

	f.config.seccomp = &wish;
	assert_refused(f, ERR_NOT_FOUND, "seccomp profile \"/p.json\"");
	f.in.seccomp = STR("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"chmod\"],"
			   "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":2},{\"name\":\"mount\",\"action\":"
			   "\"SCMP_ACT_KILL\",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},{\"names\":[\"bpf\"],"
			   "\"action\":\"SCMP_ACT_LOG\",\"includes\":{\"minKernel\":\"99.0\"}}]}");
	s = build(&f)->on_linux->seccomp;
	assert_int_equal(s->syscalls.count, 2);
	assert_int_equal(*((struct oci_syscall_rule *)s->syscalls.p)->errno_ret, 2);
	assert_string_equal(((struct oci_syscall_rule *)s->syscalls.p)[1].names[0], "mount");
	f.in.seccomp = STR("{\"defaultAction\":\"ALLOW\"}");
	assert_refused(f, ERR_INVALID, "/p.json: seccomp profile: defaultAction: unknown action \"ALLOW\"");
	wish.type = CONFIG_PROFILE_UNCONFINED;
	assert_null(build(&f)->on_linux->seccomp);
	f.config.seccomp = NULL;
	assert_null(build(&f)->on_linux->seccomp);
}

TEST(apparmor_profiles_need_apparmor)
{
	FIXTURE(f);
	struct config_profile wish = { CONFIG_PROFILE_LOCALHOST, "mine" };

	f.config.apparmor = &wish;
	assert_refused(f, ERR_STATE, "AppArmor profile \"mine\"");
	f.facts.apparmor_supported = true;
	assert_string_equal(build(&f)->process->apparmor_profile, "mine");
	wish.type = CONFIG_PROFILE_UNCONFINED;
	assert_null(build(&f)->process->apparmor_profile);
}

TEST(selinux_labels_are_the_containers_the_pods_or_made_up)
{
	FIXTURE(f);
	struct config_selinux pod = { .type = "spc_t", .level = "s0:c1,c2" };

	f.config.selinux = &pod;
	assert_null(build(&f)->process->selinux_label);
	f.facts.selinux_supported = true;
	assert_string_equal(build(&f)->process->selinux_label, "system_u:system_r:spc_t:s0:c1,c2");
	assert_string_equal(f.out.config->on_linux->mount_label, "system_u:object_r:container_file_t:s0:c1,c2");
	f.config.selinux = NULL;
	assert_true(starts_with(build(&f)->process->selinux_label, "system_u:system_r:container_t:s0:c"));
	f.config.privileged = f.pod.privileged = true;
	assert_null(build(&f)->process->selinux_label);
}

TEST(stop_signal_is_the_wishs_the_images_or_term)
{
	const struct {
		int wish;
		const char *image;
		int want;
	} rows[] = {
		{ 0, NULL, SIGTERM }, { 0, "SIGINT", SIGINT }, { 0, "quit", SIGQUIT }, { 0, "9", 9 },
		{ SIGUSR1, "SIGINT", SIGUSR1 }, { 0, "SIGRTMIN+3", 37 }, { 0, "RTMAX-1", 63 }, { 0, "RTMIN", 34 },
		{ 0, "SIGNONSENSE", SIGTERM }, { 0, "99", SIGTERM }, { 0, "SIGRTMIN+99", SIGTERM },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FIXTURE(f);
		f.config.stop_signal = rows[i].wish;
		f.image.stop_signal = (char *)rows[i].image;
		build(&f);
		assert_int_equal(f.out.stop_signal, rows[i].want);
	}
}

TEST(annotations_are_what_other_runtimes_read)
{
	FIXTURE(f);
	const struct json_map *m = &build(&f)->annotations;

	assert_string_equal(json_map_get(m, "io.kubernetes.cri.container-type"), "container");
	assert_string_equal(json_map_get(m, "io.kubernetes.cri.sandbox-id"), "pid");
	assert_string_equal(json_map_get(m, "io.kubernetes.cri.sandbox-namespace"), "default");
	assert_string_equal(json_map_get(m, "io.kubernetes.cri.image-name"), "busybox");
}

TEST(the_text_reads_back_and_names_the_lowest_version)
{
	FIXTURE(f);
	auto_buf text = BUF(OCI_CONFIG_MAX);
	struct oci_config again = { 0 };

	f.config.seccomp = &(struct config_profile){ CONFIG_PROFILE_DEFAULT, NULL };
	assert_ok(oci_config_write(&text, build(&f), &f.e), f.e);
	assert_ok(oci_config_read(&f.a, buf_str(&text), &again, &f.e), f.e);
	assert_ok(oci_config_validate(&again, &f.e), f.e);
	assert_string_equal(again.oci_version, oci_config_lowest_version(f.out.config));
	assert_int_equal(again.on_linux->seccomp->syscalls.count, f.out.config->on_linux->seccomp->syscalls.count);
}

TEST(users_are_read_inside_the_root_only)
{
	FIXTURE(f);
	char dir[] = "/tmp/knarr-test-XXXXXX";
	auto_fd int root = -1;

	assert_non_null(mkdtemp(dir));
	root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	f.in.passwd = f.in.group = (struct str){ 0 };
	assert_ok(container_facts_users(&f.a, root, &f.in, &f.e), f.e);
	assert_null(f.in.passwd.p);
	assert_ok(fs_mkdirs(root, "etc", 0755, &f.e), f.e);
	assert_ok(fs_replace(root, "etc/group", "a:x:1:\n", 7, 0644, 0, &f.e), f.e);
	assert_int_equal(symlinkat("/../../../../etc/passwd", root, "etc/passwd"), 0);
	assert_ok(container_facts_users(&f.a, root, &f.in, &f.e), f.e);
	assert_null(f.in.passwd.p); /* the link leads to itself, inside */
	assert_string_equal(f.in.group.p, "a:x:1:\n");
	assert_ok(fs_remove_tree(AT_FDCWD, dir, &f.e), f.e);
}

TEST(devices_of_the_host_are_found)
{
	FIXTURE(f);

	f.config.devices = (struct json_vec)VEC(config_device, { "/dev/zero", "/dev/null", "rwm" });
	f.config.privileged = true;
	assert_ok(container_facts_devices(&f.a, &f.in, &f.e), f.e);
	assert_int_equal(f.in.ndevices, 1);
	assert_string_equal(f.in.devices[0].path, "/dev/zero");
	assert_int_equal(f.in.devices[0].minor, 3);
	assert_true(f.in.nhost_devices > 2);
	f.config.devices = (struct json_vec)VEC(config_device, { NULL, "/dev/no-such", "r" });
	assert_err(container_facts_devices(&f.a, &f.in, &f.e), f.e, ERR_NOT_FOUND, "/dev/no-such");
	f.config.devices = (struct json_vec)VEC(config_device, { NULL, "/proc/self/stat", "r" });
	assert_err(container_facts_devices(&f.a, &f.in, &f.e), f.e, ERR_INVALID, "neither a device");
}
