#include "test.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "daemon/config.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA TEST_DATA "/knarrd.yaml/"

static int load(struct arena *a, const char *path, struct config *c, struct err *e)
{
	struct str text;

	config_defaults(c);
	assert_ok(fs_read_file(a, AT_FDCWD, path, 1 << 20, &text, e), *e);
	return config_read(a, "f.yaml", text, c, e);
}

TEST(every_key_is_read)
{
	auto_arena a = { 0 };
	struct config c;
	struct err e;

	assert_ok(load(&a, DATA "good/all.yaml", &c, &e), e);
	assert_string_equal(c.root, "/srv/knarr");
	assert_string_equal(c.run, "/run/other");
	assert_string_equal(c.user_socket, "/run/b.sock");
	assert_string_equal(c.hosts_dirs[1], "/etc/b");
	assert_string_equal(c.registries_conf, "/etc/r/registries.conf");
	assert_string_equal(c.certs_dirs[0], "/etc/r/certs.d");
	assert_string_equal(c.pinned_images[1], "registry.example/b:2");
	assert_null(c.pinned_images[2]);
	assert_int_equal(c.shm_bytes, 128 << 20);
	assert_int_equal(c.log.level, LOG_DEBUG);
	assert_int_equal(c.log.format, LOG_JSON);
	assert_string_equal(c.cni.conf_dir, "/etc/cni/net.d");
	assert_int_equal(c.cni.timeout_ns, 90 * NS_PER_S);
	assert_false(c.cni.default_network);
	assert_string_equal(c.cgroup.pod_parent, "/p");
	assert_int_equal(c.pull.parallel_layers, 5);
	assert_string_equal(c.default_handler, "crun");
	assert_int_equal(c.nhandlers, 2);
	assert_string_equal(c.handlers[0].args[0], "--debug");
	assert_null(c.handlers[0].root);
	assert_string_equal(c.handlers[1].name, "run-sc");
	assert_string_equal(c.handlers[1].path, "/usr/local/bin/runsc");
	assert_string_equal(c.handlers[1].root, "/run/runsc");
	assert_int_equal(c.limits.create_ns, 300 * NS_PER_S);
	assert_int_equal(c.limits.stop_wait_ns, 100 * NS_PER_MS);
	assert_int_equal(c.limits.calls, 64);
}

TEST(files_without_keys_change_nothing)
{
	static const char *const names[] = { DATA "good/empty.yaml", DATA "good/comment.yaml",
					     DATA "good/empty_section.yaml" };
	auto_arena a = { 0 };
	struct config c;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_ok(load(&a, names[i], &c, &e), e);
		assert_string_equal(c.root, "/var/lib/knarr");
	}
}

/* The first line of each bad file says what the error must contain: "# wants: TEXT". */
TEST(bad_files_are_refused_with_file_line_and_key)
{
	DIR *dir = opendir(DATA "bad");
	struct dirent *entry;
	int count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		auto_arena a = { 0 };
		struct str text, want;
		struct config c;
		struct err e;
		char *path;

		if (entry->d_name[0] == '.')
			continue;
		count++;
		path = path_join(&a, DATA "bad", entry->d_name);
		assert_ok(fs_read_file(&a, AT_FDCWD, path, 1 << 20, &text, &e), e);
		want = str_cut(&text, '\n');
		assert_true(str_starts(want, "# wants: "));
		want = (struct str){ want.p + 9, want.len - 9 };
		if (load(&a, path, &c, &e) == 0)
			fail_msg("%s is taken", entry->d_name);
		if (e.kind != ERR_INVALID || !starts_with(e.msg, "f.yaml:") || !strstr(e.msg, str_dup(&a, want)))
			fail_msg("%s: \"%s\", wanted \"%s\"", entry->d_name, e.msg, str_dup(&a, want));
	}
	(void)closedir(dir);
	assert_true(count > 20);
}

static int load_text(struct arena *a, const char *text, struct config *c, struct err *e)
{
	char dir[] = "/tmp/knarr-test-config-XXXXXX";
	int rc;

	assert_non_null(mkdtemp(dir));
	assert_ok(fs_replace(AT_FDCWD, path_join(a, dir, "k.yaml"), text, strlen(text), 0600, 0, e), *e);
	rc = config_load(a, path_join(a, dir, "k.yaml"), CONFIG_REQUIRED, c, e);
	assert_ok(fs_remove_tree(AT_FDCWD, dir, &(struct err){ 0 }), *e);
	return rc;
}

TEST(the_systemd_driver_has_units_where_the_other_has_paths)
{
	auto_arena a = { 0 };
	struct config c;
	struct err e;

	assert_ok(load_text(&a, "root: /r\n", &c, &e), e);
	assert_int_equal(c.cgroup.driver, CONFIG_CGROUPFS);
	assert_string_equal(c.cgroup.monitor_parent, "/knarr");
	assert_string_equal(c.cgroup.pod_parent, "/knarr-pods");
	assert_ok(load_text(&a, "cgroup: { driver: systemd }\n", &c, &e), e);
	assert_int_equal(c.cgroup.driver, CONFIG_SYSTEMD);
	assert_string_equal(c.cgroup.monitor_parent, "/system.slice/knarr.scope");
	assert_string_equal(c.cgroup.pod_parent, "/knarr-pods.slice");
	assert_err(load_text(&a, "cgroup: { driver: systemd, monitor_parent: /knarr }\n", &c, &e), e, ERR_INVALID,
		   "cgroup.monitor_parent: /knarr");
	assert_err(load_text(&a, "cgroup: { driver: systemd, pod_parent: /knarr }\n", &c, &e), e, ERR_INVALID,
		   "cgroup.pod_parent: /knarr");
}

TEST(drop_ins_replace_single_keys_in_order_of_names)
{
	char dir[] = "/tmp/knarr-test-config-XXXXXX";
	auto_arena a = { 0 };
	struct config c;
	struct err e;
	char *file;

	assert_non_null(mkdtemp(dir));
	file = path_join(&a, dir, "k.yaml");
	assert_err(config_load(&a, file, CONFIG_REQUIRED, &c, &e), e, ERR_NOT_FOUND, "k.yaml");
	assert_ok(config_load(&a, file, 0, &c, &e), e);
	assert_string_equal(c.socket, "/run/knarr/knarrd.sock");

	assert_ok(fs_replace(AT_FDCWD, file, "run: /r\nlog: {level: warn}\n", 26, 0600, 0, &e), e);
	assert_int_equal(mkdir(arena_printf(&a, "%s.d", file), 0700), 0);
	assert_ok(fs_replace(AT_FDCWD, arena_printf(&a, "%s.d/20.yaml", file), "root: /b\n", 9, 0600, 0, &e), e);
	assert_ok(fs_replace(AT_FDCWD, arena_printf(&a, "%s.d/10.yaml", file), "root: /a\n", 9, 0600, 0, &e), e);
	assert_ok(fs_replace(AT_FDCWD, arena_printf(&a, "%s.d/note.txt", file), "no: yes\n", 8, 0600, 0, &e), e);
	assert_ok(config_load(&a, file, CONFIG_REQUIRED, &c, &e), e);
	assert_string_equal(c.root, "/b");
	assert_string_equal(c.user_socket, "/r/user.sock");
	assert_int_equal(c.log.level, LOG_WARN);

	assert_ok(fs_replace(AT_FDCWD, arena_printf(&a, "%s.d/30.yaml", file), "\nno: 1\n", 7, 0600, 0, &e), e);
	assert_err(config_load(&a, file, 0, &c, &e), e, ERR_INVALID, "k.yaml.d/30.yaml:2: no: unknown key");
	assert_ok(fs_remove_tree(AT_FDCWD, dir, &e), e);
}
