#include "test.h"

#include "base/fd.h"
#include "base/fs.h"
#include "runtime/rdt.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder in resctrl's place: no file appears by itself in what is made below it. */
struct fake {
	char path[32];
	int fd;
};

static struct fake begin(void)
{
	struct fake f = { .path = "/tmp/knarr-test-XXXXXX" };
	struct err e;

	assert_non_null(mkdtemp(f.path));
	f.fd = fd_open(AT_FDCWD, f.path, O_PATH | O_DIRECTORY, &e);
	assert_true(f.fd >= 0);
	return f;
}

static void put(const struct fake *f, const char *file, const char *text)
{
	struct err e;

	assert_ok(fs_replace(f->fd, file, text, strlen(text), 0644, 0, &e), e);
}

static void end(struct fake *f)
{
	struct err e;

	assert_ok(fs_remove_tree(AT_FDCWD, f->path, &e), e);
	fd_close(&f->fd);
}

TEST(a_class_that_is_only_named_must_exist)
{
	struct oci_intel_rdt wish = { .clos_id = (char *)"gold" };
	struct fake f = begin();
	auto_arena a = { 0 };
	struct rdt r;
	struct err e;

	assert_err(rdt_create(&a, f.fd, "c1", &wish, &r, &e), e, ERR_NOT_FOUND, "\"gold\" does not exist");
	assert_int_equal(mkdirat(f.fd, "gold", 0755), 0);
	put(&f, "gold/tasks", "");
	assert_ok(rdt_create(&a, f.fd, "c1", &wish, &r, &e), e);
	assert_false(r.made_group);
	fd_close(&r.tasks_fd);
	assert_ok(rdt_remove(f.fd, &r, &e), e);
	assert_int_equal(faccessat(f.fd, "gold", F_OK, 0), 0);
	end(&f);
}

TEST(a_class_of_others_is_not_given_another_schema)
{
	struct oci_intel_rdt wish = { .clos_id = (char *)"gold", .l3_cache_schema = (char *)"L3:0=f;1=f0" };
	struct fake f = begin();
	auto_arena a = { 0 };
	struct rdt r;
	struct err e;

	assert_int_equal(mkdirat(f.fd, "gold", 0755), 0);
	put(&f, "gold/tasks", "");
	put(&f, "gold/schemata", "    MB:0=100;1=100\n    L3:0=000f;1=00ff\n");
	assert_err(rdt_create(&a, f.fd, "c1", &wish, &r, &e), e, ERR_STATE, "without \"L3:0=f;1=f0\"");
	put(&f, "gold/schemata", "    MB:0=100;1=100\n    L3:0=000f;1=00f0\n");
	assert_ok(rdt_create(&a, f.fd, "c1", &wish, &r, &e), e);
	fd_close(&r.tasks_fd);
	end(&f);
}

TEST(what_fails_half_way_is_gone)
{
	struct oci_intel_rdt wish = { .enable_monitoring = true };
	struct fake f = begin();
	auto_arena a = { 0 };
	struct rdt r;
	struct err e;

	/* The kernel would make mon_groups in it; here it is missing. */
	assert_err(rdt_create(&a, f.fd, "c1", &wish, &r, &e), e, ERR_NOT_FOUND, "enableMonitoring");
	assert_int_equal(faccessat(f.fd, "c1", F_OK, 0), -1);
	end(&f);
}

TEST(the_root_class_and_its_counters)
{
	struct oci_intel_rdt wish = { .clos_id = (char *)"/", .enable_monitoring = true };
	struct fake f = begin();
	auto_arena a = { 0 };
	struct rdt r;
	struct err e;

	assert_int_equal(mkdirat(f.fd, "mon_groups", 0755), 0);
	assert_int_equal(mkdirat(f.fd, "mon_groups/c1", 0755), 0);
	put(&f, "mon_groups/c1/tasks", "");
	assert_ok(rdt_create(&a, f.fd, "c1", &wish, &r, &e), e);
	assert_string_equal(r.monitor, "mon_groups/c1");
	fd_close(&r.tasks_fd);
	assert_int_equal(unlinkat(f.fd, "mon_groups/c1/tasks", 0), 0);
	assert_ok(rdt_remove(f.fd, &r, &e), e);
	assert_int_equal(faccessat(f.fd, "mon_groups/c1", F_OK, 0), -1);
	end(&f);
}

TEST(a_class_is_no_path)
{
	static const char *const names[] = { "a/b", "..", ".", "info", "mon_groups", "a\nb" };
	struct fake f = begin();

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct oci_intel_rdt wish = { .clos_id = (char *)names[i] };
		auto_arena a = { 0 };
		struct rdt r;
		struct err e;

		assert_err(rdt_create(&a, f.fd, "c1", &wish, &r, &e), e, ERR_INVALID, "closID");
	}
	end(&f);
}
