#include "test.h"

#include "base/fs.h"
#include "store/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct place {
	char dir[64], path[96];
};

static struct place place_new(void)
{
	struct place p;

	(void)snprintf(p.dir, sizeof(p.dir), "/tmp/knarr-test-%d-XXXXXX", (int)getpid());
	assert_non_null(mkdtemp(p.dir));
	(void)snprintf(p.path, sizeof(p.path), "%s/state/catalog.db", p.dir);
	return p;
}

static void place_end(const struct place *p)
{
	struct err e;

	assert_ok(fs_remove_tree(AT_FDCWD, p->dir, &e), e);
}

static void put(struct catalog *c, enum catalog_table t, const char *id, const char *parent, const char *body)
{
	struct err e;

	assert_ok(catalog_put(c, t, &(struct record){ id, parent, str_of(body) }, &e), e);
}

static int collect(void *ctx, const struct record *r, struct err *e)
{
	struct buf *b = ctx;

	return buf_addf(b, e, "%s<%s>%.*s ", r->id, r->parent ? r->parent : "", STR_ARG(r->body));
}

static void assert_holds(struct catalog *c, enum catalog_table t, const char *want)
{
	auto_buf b = BUF(1 << 20);
	struct err e;

	assert_ok(catalog_each(c, t, collect, &b, &e), e);
	assert_string_equal(buf_text(&b), want);
}

TEST(records_come_back_in_order_of_insertion_after_reopening)
{
	struct place p = place_new();
	struct catalog *c;
	struct err e;

	assert_ok(catalog_open(p.path, &c, &e), e);
	put(c, CATALOG_PODS, "b", NULL, "1");
	put(c, CATALOG_PODS, "a", "x", "2");
	put(c, CATALOG_PODS, "c", NULL, "");
	put(c, CATALOG_PODS, "b", "y", "3");
	assert_ok(catalog_delete(c, CATALOG_PODS, "absent", &e), e);
	catalog_close(c);
	assert_ok(catalog_open(p.path, &c, &e), e);
	assert_holds(c, CATALOG_PODS, "b<y>3 a<x>2 c<> ");
	assert_holds(c, CATALOG_CONTAINERS, "");
	assert_holds(c, CATALOG_META, "schema<>{\"version\":1} ");
	catalog_close(c);
	place_end(&p);
}

TEST(one_record_is_found_by_id)
{
	struct place p = place_new();
	auto_arena a = { 0 };
	struct catalog *c;
	struct record r;
	struct err e;

	assert_ok(catalog_open(p.path, &c, &e), e);
	put(c, CATALOG_REFS, "docker.io/library/busybox:latest", "sha256:1", "{}");
	assert_ok(catalog_get(c, CATALOG_REFS, "docker.io/library/busybox:latest", &a, &r, &e), e);
	assert_string_equal(r.parent, "sha256:1");
	assert_string_equal(r.body.p, "{}");
	assert_err(catalog_get(c, CATALOG_REFS, "other", &a, &r, &e), e, ERR_NOT_FOUND, "other");
	catalog_close(c);
	place_end(&p);
}

TEST(records_below_a_prefix_are_found)
{
	struct place p = place_new();
	auto_buf b = BUF(1 << 20);
	struct catalog *c;
	struct err e;

	assert_ok(catalog_open(p.path, &c, &e), e);
	put(c, CATALOG_ATTACHMENTS, "pod2/net/eth0", "pod2", "2");
	put(c, CATALOG_ATTACHMENTS, "pod/net/eth0", "pod", "1");
	put(c, CATALOG_ATTACHMENTS, "pod", NULL, "0");
	put(c, CATALOG_ATTACHMENTS, "pod/a/eth0", "pod", "3");
	assert_ok(catalog_each_below(c, CATALOG_ATTACHMENTS, "pod/", collect, &b, &e), e);
	assert_string_equal(buf_text(&b), "pod/net/eth0<pod>1 pod/a/eth0<pod>3 ");
	catalog_close(c);
	place_end(&p);
}

TEST(a_body_may_hold_any_bytes)
{
	struct place p = place_new();
	auto_arena a = { 0 };
	struct catalog *c;
	struct record r;
	struct err e;

	assert_ok(catalog_open(p.path, &c, &e), e);
	assert_ok(catalog_put(c, CATALOG_META, &(struct record){ "k", NULL, { "a\0\xff", 3 } }, &e), e);
	assert_ok(catalog_get(c, CATALOG_META, "k", &a, &r, &e), e);
	assert_int_equal(r.body.len, 3);
	assert_memory_equal(r.body.p, "a\0\xff", 3);
	catalog_close(c);
	place_end(&p);
}

TEST(changes_happen_together)
{
	struct place p = place_new();
	struct catalog *c;
	struct err e;

	assert_ok(catalog_open(p.path, &c, &e), e);
	put(c, CATALOG_PODS, "old", NULL, "1");
	struct catalog_change changes[] = {
		{ CATALOG_PODS, { "old", NULL, { NULL, 0 } } },
		{ CATALOG_IMAGES, { "sha256:1", NULL, STR("i") } },
		{ CATALOG_REFS, { "r", "sha256:1", STR("r") } },
	};
	assert_ok(catalog_change(c, changes, ARRAY_SIZE(changes), CATALOG_FULL, &e), e);
	assert_holds(c, CATALOG_PODS, "");
	assert_holds(c, CATALOG_IMAGES, "sha256:1<>i ");
	assert_holds(c, CATALOG_REFS, "r<sha256:1>r ");
	/* an ID of NULL violates the table: nothing of the change may stay */
	struct catalog_change bad[] = {
		{ CATALOG_PODS, { "new", NULL, STR("1") } },
		{ CATALOG_PODS, { NULL, NULL, STR("2") } },
	};
	assert_err(catalog_change(c, bad, ARRAY_SIZE(bad), CATALOG_NORMAL, &e), e, ERR_SYSTEM, "pods");
	assert_holds(c, CATALOG_PODS, "");
	put(c, CATALOG_PODS, "after", NULL, "1");
	assert_holds(c, CATALOG_PODS, "after<>1 ");
	catalog_close(c);
	place_end(&p);
}

TEST(a_second_opener_is_told_the_first_ones_pid)
{
	struct place p = place_new();
	struct catalog *c, *other = NULL;
	char pid[32];
	struct err e;

	assert_ok(catalog_open(p.path, &c, &e), e);
	(void)snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	assert_err(catalog_open(p.path, &other, &e), e, ERR_UNAVAILABLE, pid);
	assert_null(other);
	catalog_close(c);
	assert_ok(catalog_open(p.path, &other, &e), e);
	catalog_close(other);
	place_end(&p);
}

TEST(what_was_written_survives_kill_9)
{
	struct place p = place_new();
	struct catalog *c;
	int ready[2], status;
	char byte;
	struct err e;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		if (catalog_open(p.path, &c, &e) < 0)
			_exit(1);
		for (int i = 0; i < 300; i++) {
			char id[16];

			(void)snprintf(id, sizeof(id), "%03d", i);
			if (catalog_put(c, CATALOG_PODS, &(struct record){ id, NULL, STR("x") }, &e) < 0)
				_exit(1);
		}
		(void)!write(ready[1], "x", 1);
		for (;;)
			(void)pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	(void)close(ready[0]);
	(void)close(ready[1]);
	auto_buf b = BUF(1 << 20);
	assert_ok(catalog_open(p.path, &c, &e), e);
	assert_ok(catalog_each(c, CATALOG_PODS, collect, &b, &e), e);
	assert_int_equal(b.len, 300 * strlen("000<>x "));
	catalog_close(c);
	place_end(&p);
}

static void write_file(const char *path, const char *bytes, size_t n, off_t at)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, at), n);
	(void)close(fd);
}

TEST(a_file_that_is_no_database_is_named_and_kept)
{
	struct place p = place_new();
	struct catalog *c = NULL;
	struct err e;
	struct stat st;

	auto_arena a = { 0 };

	assert_ok(fs_mkdirs(AT_FDCWD, path_join(&a, p.dir, "state"), 0700, &e), e);
	write_file(p.path, "not a database, but long enough to be looked at by anyone who reads it at all, "
			   "which is one hundred bytes", 105, 0);
	assert_err(catalog_open(p.path, &c, &e), e, ERR_DATA_LOSS, p.path);
	assert_err(catalog_open(p.path, &c, &e), e, ERR_DATA_LOSS, "move it");
	assert_int_equal(stat(p.path, &st), 0);
	assert_int_equal(st.st_size, 105);
	place_end(&p);
}

TEST(a_damaged_file_is_found_at_open)
{
	struct place p = place_new();
	char rubbish[8192];
	struct catalog *c = NULL;
	struct err e;

	assert_ok(catalog_open(p.path, &c, &e), e);
	for (int i = 0; i < 500; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "%d", i);
		put(c, CATALOG_PODS, id, NULL, "a body that fills the pages of the table a little faster than none");
	}
	catalog_close(c);
	memset(rubbish, 0xa5, sizeof(rubbish));
	write_file(p.path, rubbish, sizeof(rubbish), 24576);
	assert_err(catalog_open(p.path, &c, &e), e, ERR_DATA_LOSS, p.path);
	place_end(&p);
}

/* Runs in a child with a small file system of its own; exit code 0: as promised. */
static int full_disk_child(const char *dir)
{
	auto_arena a = { 0 };
	struct catalog *c;
	struct str body = { arena_alloc0(&a, 16384), 16384 };
	size_t stored = 0;
	auto_buf b = BUF(64 << 20);
	struct err e;
	char id[16];

	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=512k") < 0)
		return 10;
	if (catalog_open(path_join(&a, dir, "catalog.db"), &c, &e) < 0)
		return 11;
	for (;; stored++) {
		(void)snprintf(id, sizeof(id), "%zu", stored);
		if (stored > 100)
			return 12;
		if (catalog_put(c, CATALOG_PODS, &(struct record){ id, NULL, body }, &e) < 0)
			break;
	}
	if (e.kind != ERR_EXHAUSTED || !strstr(e.msg, "disk is full") || stored == 0)
		return 13;
	if (catalog_each(c, CATALOG_PODS, collect, &b, &e) < 0)
		return 14;
	catalog_close(c);
	if (catalog_open(path_join(&a, dir, "catalog.db"), &c, &e) < 0)
		return 15;
	catalog_close(c);
	return 0;
}

TEST(a_full_disk_is_an_error_and_the_rest_stays_whole)
{
	struct place p = place_new();
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(full_disk_child(p.dir));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
	place_end(&p);
}
