/* The real knarr-unpack, in its cell, on archives good and hostile. */
#include "test.h"

#include "archive.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "image/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

struct cell {
	char dir[64];
	int top, dest;
	struct archive tar;
	struct unpack_result result;
	struct call call;
};

static void cell_begin(struct cell *c)
{
	const char *top = getenv("TMPDIR"); /* for where /tmp is an overlay, which takes no whiteouts */
	struct err e;

	*c = (struct cell){ 0 };
	(void)snprintf(c->dir, sizeof(c->dir), "%s/knarr-test-%d-XXXXXX", top ? top : "/tmp", getpid());
	assert_non_null(mkdtemp(c->dir));
	c->top = fd_open(AT_FDCWD, c->dir, O_RDONLY | O_DIRECTORY, &e);
	assert_int_equal(mkdirat(c->top, "layer", 0755), 0);
	c->dest = fd_open(c->top, "layer", O_RDONLY | O_DIRECTORY, &e);
	call_begin(&c->call, clock_mono_ns() + 60 * NS_PER_S);
}

static void cell_end(struct cell *c)
{
	struct err e;

	call_end(&c->call);
	buf_free(&c->tar.bytes);
	fd_close(&c->dest);
	fd_close(&c->top);
	assert_ok(fs_remove_tree(AT_FDCWD, c->dir, &e), e);
}

static int run(struct cell *c, struct unpack_limits limits, struct err *e)
{
	auto_fd int source = fd_memfd("tar", c->tar.bytes.p, c->tar.bytes.len, e);
	struct unpack_spec s = UNPACK_SPEC_INIT;
	struct unpack u;
	int fd;

	s.program = KNARR_UNPACK;
	s.name = "layer";
	s.dest_fd = c->dest;
	s.source_fd = source;
	s.limits = limits;
	if (unpack_start(&s, &u, &fd, e) < 0)
		return -1;
	return unpack_wait(&c->call, &u, c->dest, &c->call.arena, &c->result, e);
}

static int unpack(struct cell *c, struct err *e)
{
	archive_end(&c->tar);
	return run(c, (struct unpack_limits){ 0 }, e);
}

static struct stat stat_of(struct cell *c, const char *path)
{
	struct stat st;

	if (fstatat(c->dest, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s is not there", path);
	return st;
}

static const char *text_of(struct cell *c, const char *path)
{
	struct str s;
	struct err e;

	assert_ok(fs_read_file(&c->call.arena, c->dest, path, 1 << 20, &s, &e), e);
	return s.p;
}

TEST(every_kind_of_entry_becomes_what_it_says)
{
	struct cell c;
	struct err e;

	cell_begin(&c);
	archive_add(&c.tar, '0', "late/file", "", "before its folder");
	archive_add(&c.tar, '1', "hard", "target", "");
	archive_add(&c.tar, '0', "target", "", "after its link");
	archive_add(&c.tar, '5', "late/", "", "");
	archive_add(&c.tar, '2', "soft", "/etc/passwd", "");
	archive_add(&c.tar, '3', "dev", "", "");
	archive_add(&c.tar, '6', "fifo", "", "");
	archive_add(&c.tar, '0', "./target", "", "replaced");
	assert_ok(unpack(&c, &e), e);
	assert_string_equal(text_of(&c, "late/file"), "before its folder");
	assert_string_equal(text_of(&c, "target"), "replaced");
	assert_int_equal(stat_of(&c, "late").st_mtim.tv_sec, 1000);
	assert_true(S_ISLNK(stat_of(&c, "soft").st_mode));
	assert_true(stat_of(&c, "dev").st_rdev == makedev(1, 3));
	assert_true(S_ISFIFO(stat_of(&c, "fifo").st_mode));
	assert_int_equal(c.result.entries, 8);
	cell_end(&c);
}

TEST(whiteouts_become_what_overlayfs_wants)
{
	struct cell c;
	char value[8] = "";
	struct err e;

	cell_begin(&c);
	archive_add(&c.tar, '0', "a/.wh.gone", "", "");
	archive_add(&c.tar, '0', "b/new", "", "n");
	archive_add(&c.tar, '0', "b/.wh..wh..opq", "", "");
	archive_add(&c.tar, '0', ".wh.again", "", "");
	archive_add(&c.tar, '0', "again/file", "", "f");
	archive_add(&c.tar, '0', ".wh..wh.plnk/1.2", "", "aufs");
	assert_ok(unpack(&c, &e), e);
	assert_true(S_ISCHR(stat_of(&c, "a/gone").st_mode) && stat_of(&c, "a/gone").st_rdev == 0);
	for (int i = 0; i < 2; i++) {
		auto_fd int fd = fd_open(c.dest, i ? "again" : "b", O_RDONLY | O_DIRECTORY, &e);

		assert_int_equal(fgetxattr(fd, "trusted.overlay.opaque", value, sizeof(value)), 1);
		assert_int_equal(value[0], 'y');
	}
	assert_int_equal(faccessat(c.dest, ".wh..wh.plnk", F_OK, 0), -1);
	cell_end(&c);
}

TEST(pax_says_names_times_and_xattrs)
{
	static const char pax[] = "19 mtime=1000.25\n30 path=caf\xc3\xa9/long name here\n28 SCHILY.xattr.user.k=a\nb\n"
				  "43 SCHILY.xattr.trusted.overlay.redirect=x\n";
	char value[16] = "", buf[600];
	struct cell c;
	struct err e;

	cell_begin(&c);
	/* lengths are put right here, so that the text above can be read */
	size_t n = 0;
	for (const char *p = pax; *p;) {
		const char *body = strchr(p, ' ');
		const char *end = strstr(body, "user.k=") && strstr(body, "user.k=") < strchr(body, '\n') ?
			strchr(strchr(body, '\n') + 1, '\n') : strchr(body, '\n');
		int len = (int)(end - body) + 1 + 2;

		n += (size_t)snprintf(buf + n, sizeof(buf) - n, "%d%.*s\n", len, (int)(end - body), body);
		p = end + 1;
	}
	archive_add(&c.tar, 'x', "PaxHeaders/x", "", buf);
	archive_add(&c.tar, '0', "short", "", "data");
	assert_ok(unpack(&c, &e), e);
	assert_int_equal(stat_of(&c, "caf\xc3\xa9/long name here").st_mtim.tv_nsec, 250000000);
	auto_fd int fd = fd_open(c.dest, "caf\xc3\xa9/long name here", O_RDONLY, &e);
	assert_int_equal(fgetxattr(fd, "user.k", value, sizeof(value)), 3);
	assert_string_equal(value, "a\nb");
	assert_int_equal(c.result.xattrs_dropped, 1);
	cell_end(&c);
}

TEST(a_link_of_the_layer_is_followed_inside_it_only)
{
	struct cell c;
	struct err e;

	cell_begin(&c);
	archive_add(&c.tar, '2', "out", "../../../../../../tmp", "");
	archive_add(&c.tar, '0', "out/knarr-test-escaped", "", "x");
	archive_add(&c.tar, '2', "abs", "/usr", "");
	archive_add(&c.tar, '0', "abs/lib", "", "y");
	assert_ok(unpack(&c, &e), e);
	assert_string_equal(text_of(&c, "tmp/knarr-test-escaped"), "x");
	assert_string_equal(text_of(&c, "usr/lib"), "y");
	assert_int_equal(access("/tmp/knarr-test-escaped", F_OK), -1);
	cell_end(&c);
}

static void refused(char type, const char *path, const char *link, enum err_kind kind, const char *text)
{
	struct cell c;
	struct err e;

	cell_begin(&c);
	archive_add(&c.tar, type, path, link, "");
	assert_err(unpack(&c, &e), e, kind, text);
	cell_end(&c);
}

TEST(what_leaves_the_layer_is_refused)
{
	refused('0', "../evil", "", ERR_INVALID, "leaves the layer");
	refused('0', "a/../../evil", "", ERR_INVALID, "leaves the layer");
	refused('1', "hard", "../../etc/passwd", ERR_INVALID, "outside");
	refused('1', "hard", "/etc/passwd", ERR_INVALID, "does not have");
	refused('2', "loop", "", ERR_INVALID, "without a target");
	refused('0', ".wh...", "", ERR_INVALID, "whiteout of nothing");
	refused('Q', "what", "", ERR_INVALID, "unknown type");
	refused('2', ".", "x", ERR_INVALID, "root can only be a folder");
}

TEST(a_link_loop_ends)
{
	struct cell c;
	struct err e;

	cell_begin(&c);
	archive_add(&c.tar, '2', "a", "b", "");
	archive_add(&c.tar, '2', "b", "a", "");
	archive_add(&c.tar, '0', "a/file", "", "x");
	assert_err(unpack(&c, &e), e, ERR_INVALID, "too many links");
	cell_end(&c);
}

TEST(damage_is_found)
{
	struct cell c;
	struct err e;

	cell_begin(&c);
	archive_add(&c.tar, '0', "a", "", "x");
	c.tar.bytes.p[3] ^= 1;
	assert_err(unpack(&c, &e), e, ERR_DATA_LOSS, "checksum");
	cell_end(&c);
	cell_begin(&c);
	archive_add(&c.tar, '0', "a", "", "some data");
	c.tar.bytes.len = 700;
	assert_err(run(&c, (struct unpack_limits){ 0 }, &e), e, ERR_DATA_LOSS, "cut short");
	cell_end(&c);
	cell_begin(&c);
	archive_raw(&c.tar, "\x1f\x8b\x08\0\0\0\0\0\0\3xxxxxxxxxxxxxxxxxxxx", 30);
	assert_err(run(&c, (struct unpack_limits){ 0 }, &e), e, ERR_DATA_LOSS, "gzip");
	cell_end(&c);
}

TEST(limits_hold)
{
	struct cell c;
	struct err e;

	cell_begin(&c);
	for (int i = 0; i < 5; i++)
		archive_add(&c.tar, '5', "d", "", "");
	archive_end(&c.tar);
	assert_err(run(&c, (struct unpack_limits){ .max_entries = 4 }, &e), e, ERR_EXHAUSTED, "entries");
	assert_err(run(&c, (struct unpack_limits){ .max_bytes = 1000 }, &e), e, ERR_EXHAUSTED, "bytes");
	cell_end(&c);
}

TEST(a_cancelled_call_ends_the_unpacking)
{
	struct unpack_spec s = UNPACK_SPEC_INIT;
	struct cell c;
	struct unpack u;
	auto_fd int fd = -1;
	struct err e;

	cell_begin(&c);
	s.program = KNARR_UNPACK;
	s.name = "layer";
	s.dest_fd = c.dest;
	assert_ok(unpack_start(&s, &u, &fd, &e), e);
	call_cancel(&c.call);
	assert_err(unpack_wait(&c.call, &u, c.dest, &c.call.arena, &c.result, &e), e, ERR_CANCELLED, "");
	cell_end(&c);
}
