#include "test.h"

#include "base/fd.h"
#include "image/tar_write.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct bytes {
	unsigned char p[65536];
	size_t n;
	bool given;
};

static int more(void *ctx, const unsigned char **p, size_t *n, UNUSED struct err *e)
{
	struct bytes *b = ctx;

	*p = b->p;
	*n = b->given ? 0 : b->n;
	b->given = true;
	return 0;
}

static int file(void)
{
	int fd = memfd_create("tar", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void read_back(int fd, struct bytes *b, struct tar_reader *t)
{
	ssize_t n = pread(fd, b->p, sizeof(b->p), 0);

	assert_true(n > 0 && n % TAR_BLOCK == 0);
	b->n = (size_t)n;
	b->given = false;
	tar_open(t, (struct tar_source){ more, b });
}

TEST(what_is_written_is_read)
{
	static const struct tar_xattr xattr = { "user.a", { "x\0y", 3 } };
	char path[300], link[200];
	const struct tar_entry entries[] = {
		{ .type = TAR_DIR, .path = "d", .mode = 01777, .uid = 7, .gid = 8, .mtime_s = 1700000000 },
		{ .type = TAR_SYMLINK, .path = path, .link = link, .mode = 0777 },
		{ .type = TAR_CHARDEV, .path = "c", .major = 1, .minor = 300 },
		{ .type = TAR_FIFO, .path = "f", .uid = 4000000, .gid = 3000000, .xattrs = &xattr, .nxattrs = 1 },
	};
	auto_fd int fd = file();
	auto_tar t = { 0 };
	struct bytes b;
	struct tar_entry got;
	struct err e;

	memset(path, 'p', sizeof(path) - 1);
	memset(link, 'l', sizeof(link) - 1);
	path[sizeof(path) - 1] = link[sizeof(link) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		assert_ok(tar_write_entry(fd, &entries[i], &e), e);
	assert_ok(tar_write_end(fd, &e), e);
	read_back(fd, &b, &t);
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		assert_int_equal(tar_next(&t, &got, &e), 1);
		assert_int_equal(got.type, entries[i].type);
		assert_string_equal(got.path, entries[i].path);
		assert_int_equal(got.mode, entries[i].mode);
		assert_int_equal(got.uid, entries[i].uid);
		assert_int_equal(got.gid, entries[i].gid);
		assert_int_equal(got.mtime_s, entries[i].mtime_s);
		assert_int_equal(got.major, entries[i].major);
		assert_int_equal(got.minor, entries[i].minor);
		assert_int_equal(got.nxattrs, entries[i].nxattrs);
		if (entries[i].link)
			assert_string_equal(got.link, entries[i].link);
	}
	assert_string_equal(got.xattrs[0].name, "user.a");
	assert_int_equal(got.xattrs[0].value.len, 3);
	assert_memory_equal(got.xattrs[0].value.p, "x\0y", 3);
	assert_int_equal(tar_next(&t, &got, &e), 0);
}

TEST(data_is_padded)
{
	auto_fd int fd = file(), from = file();
	const struct tar_entry t1 = { .type = TAR_FILE, .path = "b", .size = 3 };
	auto_tar t = { 0 };
	const unsigned char *p;
	struct bytes b;
	struct tar_entry got;
	uint64_t offset;
	struct err e;
	size_t n;

	assert_ok(fd_write_all(from, "abc", 3, &e), e);
	assert_int_equal(lseek(from, 0, SEEK_SET), 0);
	assert_ok(tar_write_text(fd, "a", STR("hello"), &e), e);
	assert_ok(tar_write_entry(fd, &t1, &e), e);
	assert_ok(tar_write_from(fd, from, 3, &e), e);
	assert_ok(tar_write_end(fd, &e), e);
	read_back(fd, &b, &t);
	assert_int_equal(tar_next(&t, &got, &e), 1);
	assert_ok(tar_data(&t, &p, &n, &offset, &e), e);
	assert_int_equal(n, 5);
	assert_memory_equal(p, "hello", 5);
	assert_int_equal(tar_next(&t, &got, &e), 1);
	assert_string_equal(got.path, "b");
	assert_ok(tar_data(&t, &p, &n, &offset, &e), e);
	assert_memory_equal(p, "abc", 3);
	assert_int_equal(tar_next(&t, &got, &e), 0);
}

TEST(a_file_that_ends_earlier_is_an_error)
{
	auto_fd int fd = file(), from = file();
	struct err e;

	assert_err(tar_write_from(fd, from, 3, &e), e, ERR_DATA_LOSS, "");
}
