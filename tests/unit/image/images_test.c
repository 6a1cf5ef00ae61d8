/* Images and snapshots without a registry: content and layers are put in by hand, roots are looked at through the
 * mounted overlay. On a tmpfs in a mount namespace of the test's own. */
#include "test.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "image/stack.h"
#include "kernel/userns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

struct world {
	char dir[64];
	int root;
	struct catalog *catalog;
	struct images *im;
	struct call call;
};

static void start(struct world *w)
{
	struct image_settings s = { .root = w->dir, .run = w->dir, .libexec = "/nonexistent" };
	struct err e;

	assert_ok(catalog_open(arena_printf(&w->call.arena, "%s/catalog.db", w->dir), &w->catalog, &e), e);
	assert_ok(images_open(&s, w->catalog, &w->im, &e), e);
}

static void stop(struct world *w)
{
	images_close(w->im);
	catalog_close(w->catalog);
}

static void prepare(struct world *w)
{
	static bool own_namespace;
	struct err e;

	if (geteuid() != 0)
		skip();
	if (!own_namespace) {
		assert_int_equal(unshare(CLONE_NEWNS), 0);
		assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
		own_namespace = true;
	}
	*w = (struct world){ 0 };
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/knarr-test-%d-XXXXXX", getpid());
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(mount("tmpfs", w->dir, "tmpfs", 0, "size=64m"), 0);
	w->root = fd_open(AT_FDCWD, w->dir, O_RDONLY | O_DIRECTORY, &e);
	call_begin(&w->call, clock_mono_ns() + 60 * NS_PER_S);
}

static void begin(struct world *w)
{
	prepare(w);
	start(w);
}

static void end(struct world *w)
{
	stop(w);
	call_end(&w->call);
	fd_close(&w->root);
	assert_int_equal(umount2(w->dir, 0), 0); /* no mount, no fd of ours is left in it */
	assert_int_equal(rmdir(w->dir), 0);
}

/* --- images by hand -------------------------------------------------------------------------------- */

static char *digest_of(struct arena *a, struct str text)
{
	unsigned char sum[SHA256_DIGEST_LENGTH];
	char *out = arena_alloc(a, 72);
	size_t n = (size_t)snprintf(out, 72, "sha256:");

	(void)SHA256((const unsigned char *)text.p, text.len, sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		n += (size_t)snprintf(out + n, 72 - n, "%02x", sum[i]);
	return out;
}

static void put_file(int dir, const char *path, const char *text)
{
	struct err e;

	assert_ok(fs_replace(dir, path, text, strlen(text), 0644, 0, &e), e);
}

/* The layer `name`, filled by fn. */
static char *layer(struct world *w, const char *name, void (*fn)(int dir, int i), int i, struct unpack_result r)
{
	struct arena *a = &w->call.arena;
	struct layer_work work;
	struct err e;

	r.diff_id = digest_of(a, str_of(name));
	r.format = (char *)"plain";
	r.disk_bytes = 4096;
	r.inodes = 1;
	assert_ok(layer_take(w->im->layers, &w->call, r.diff_id, &work, &e), e);
	assert_true(work.mine);
	fn(work.dir_fd, i);
	assert_ok(layer_commit(w->im->layers, &work, &r, &e), e);
	return r.diff_id;
}

/* Commits and gives the references back, as a pull does. Its manifest is no document: nobody here reads it. */
static char *image(struct world *w, const char *name, char **layers)
{
	struct arena *a = &w->call.arena;
	struct str config = str_of(arena_printf(a, "{\"name\":\"%s\"}", name)), manifest = str_of(arena_printf(a, "%s{}", name));
	char *id = digest_of(a, config), *refs[] = { arena_printf(a, "docker.io/library/%s:latest", name), NULL };
	struct image_record r = { .version = 1, .manifest = digest_of(a, manifest), .manifest_size = manifest.len,
				  .media_type = (char *)"application/vnd.oci.image.manifest.v1+json", .layers = layers };
	struct err e;

	assert_ok(content_put(w->im->content, &w->call, id, config, &e), e);
	assert_ok(content_put(w->im->content, &w->call, r.manifest, manifest, &e), e);
	assert_ok(images_commit(w->im, &w->call, id, &r, refs, &e), e);
	content_release(w->im->content, id);
	content_release(w->im->content, r.manifest);
	for (size_t i = 0; layers && layers[i]; i++)
		layer_release(w->im->layers, layers[i]);
	return id;
}

static size_t entries(struct world *w, const char *path)
{
	struct err e;
	int fd = fd_open(w->root, path, O_RDONLY | O_DIRECTORY, &e);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	size_t n = 0;

	assert_non_null(dir);
	while ((d = readdir(dir)))
		n += !streq(d->d_name, ".") && !streq(d->d_name, "..") && !streq(d->d_name, ".base");
	(void)closedir(dir);
	return n;
}

/* At once under its name, and after a while altogether. */
static void gone(struct world *w, const char *path)
{
	struct err e;

	assert_int_equal(faccessat(w->root, path, F_OK, 0), -1);
	for (int i = 0; i < 500 && entries(w, "containers"); i++)
		assert_ok(call_sleep(&w->call, 10 * NS_PER_MS, &e), e);
	assert_int_equal(entries(w, "containers"), 0);
}

static const char *text(struct world *w, int dir, const char *path)
{
	struct str s;
	struct err e;

	return fs_read_file(&w->call.arena, dir, path, 1 << 20, &s, &e) < 0 ? NULL : s.p;
}

static void fill_numbered(int dir, int i)
{
	char name[20];

	(void)snprintf(name, sizeof(name), "l%d", i);
	put_file(dir, name, name);
	put_file(dir, "who", name);
}

/* --- snapshots ------------------------------------------------------------------------------------- */

TEST(an_image_without_layers_is_an_empty_root)
{
	uint64_t bytes, inodes;
	struct world w;
	struct err e;
	struct stat st;
	int mnt;

	begin(&w);
	char *id = image(&w, "empty", NULL);
	assert_ok(snapshot_create(w.im, "c1", id, &e), e);
	assert_ok(snapshot_mount(w.im, "c1", -1, &mnt, &e), e);
	assert_int_equal(fstat(mnt, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	put_file(mnt, "new", "written");
	assert_int_equal(linkat(mnt, "new", mnt, "again", 0), 0);
	assert_string_equal(text(&w, w.root, "containers/c1/upper/new"), "written");
	assert_ok(snapshot_usage(w.im, "c1", &bytes, &inodes, &e), e);
	assert_int_equal(bytes, 4096);
	assert_int_equal(inodes, 2); /* the folder and one file of two names */
	fd_close(&mnt);
	assert_ok(snapshot_remove(w.im, "c1", &e), e);
	assert_ok(snapshot_remove(w.im, "c1", &e), e); /* again: harmless */
	gone(&w, "containers/c1");
	assert_err(snapshot_usage(w.im, "c1", &bytes, &inodes, &e), e, ERR_NOT_FOUND, "c1");
	assert_err(snapshot_mount(w.im, "c1", -1, &mnt, &e), e, ERR_NOT_FOUND, "c1");
	end(&w);
}

/* A user namespace in which root is OUTSIDE of ours. */
enum { OUTSIDE = 200000 };
static int user_namespace(void)
{
	static const struct idmap map = { 0, OUTSIDE, 65536 };
	auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct err e;
	int fd;

	assert_ok(userns_make(proc, &(struct idmaps){ &map, &map, 1, 1 }, NULL, 0, &fd, &e), e);
	return fd;
}

static void fill_owned(int dir, UNUSED int n)
{
	put_file(dir, "a", "owned");
	assert_int_equal(fchownat(dir, "a", 3, 4, 0), 0);
}

TEST(layers_are_seen_as_a_user_namespace_maps_them)
{
	struct world w;
	struct err e;
	struct stat st;
	int mnt, map, userns = user_namespace();

	begin(&w);
	if (layers_map(w.im->layers, userns, &map, &e) < 0) {
		print_message("skipped: this kernel cannot idmap a tmpfs (Linux 6.3)\n");
		fd_close(&userns);
		end(&w);
		skip();
	}
	fd_close(&map);
	char *layers[] = { layer(&w, "a", fill_owned, 0, (struct unpack_result){ 0 }), NULL };
	char *id = image(&w, "mapped", layers);
	const struct image_record *record;
	assert_ok(snapshot_create(w.im, "c1", id, &e), e);
	assert_ok(snapshot_mount(w.im, "c1", userns, &mnt, &e), e);
	assert_int_equal(fstatat(mnt, "a", &st, 0), 0);
	assert_int_equal(st.st_uid, OUTSIDE + 3);
	assert_int_equal(st.st_gid, OUTSIDE + 4);
	assert_int_equal(fstatat(mnt, "", &st, AT_EMPTY_PATH), 0);
	assert_int_equal(st.st_uid, OUTSIDE);
	fd_close(&mnt);
	/* Older kernels take layers of an attached mount only. */
	auto_stack s = STACK_INIT(userns, STACK_ATTACH);
	assert_ok(images_hold(w.im, id, &record, &e), e);
	assert_ok(stack_open(w.im, record, &s, &e), e);
	images_unhold(w.im, id);
	assert_ok(stack_mount(w.im, &s, &mnt, &e), e);
	assert_int_equal(fstatat(mnt, "a", &st, 0), 0);
	assert_int_equal(st.st_uid, OUTSIDE + 3);
	fd_close(&mnt);
	stack_close(&s);
	assert_int_equal(mkdirat(w.root, ".map-left", 0700), 0);
	stack_clear(w.im);
	assert_int_equal(faccessat(w.root, ".map-left", F_OK, 0), -1);
	fd_close(&userns);
	assert_ok(snapshot_remove(w.im, "c1", &e), e);
	end(&w);
}

static void fill_volume(int dir, UNUSED int n)
{
	assert_int_equal(mkdirat(dir, "data", 0755), 0);
	put_file(dir, "data/model", "weights");
	assert_int_equal(symlinkat("/data", dir, "link"), 0);
	assert_int_equal(symlinkat("/../../../etc", dir, "out"), 0);
}

TEST(an_image_is_a_volume_and_held_while_it_is)
{
	struct world w;
	struct err e;
	int mnt;

	begin(&w);
	char *layers[] = { layer(&w, "v", fill_volume, 0, (struct unpack_result){ 0 }), NULL };
	char *id = image(&w, "volume", layers), *own = image(&w, "own", NULL);
	assert_ok(image_mount(w.im, id, NULL, -1, &mnt, &e), e);
	assert_string_equal(text(&w, mnt, "data/model"), "weights");
	assert_int_equal(openat(mnt, "new", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
	assert_int_equal(errno, EROFS);
	fd_close(&mnt);
	assert_ok(image_mount(w.im, id, "link", -1, &mnt, &e), e);
	assert_string_equal(text(&w, mnt, "model"), "weights");
	fd_close(&mnt);
	assert_err(image_mount(w.im, id, "none", -1, &mnt, &e), e, ERR_NOT_FOUND, "image_sub_path \"none\"");
	assert_ok(image_mount(w.im, id, "out", -1, &mnt, &e), e); /* the image's own /etc: the base's */
	assert_int_equal(faccessat(mnt, "passwd", F_OK, 0), -1);
	fd_close(&mnt);
	assert_err(image_mount(w.im, id, "data/model", -1, &mnt, &e), e, ERR_INVALID, "is no folder");
	assert_ok(snapshot_create(w.im, "c1", own, &e), e);
	assert_ok(snapshot_hold(w.im, "c1", id, &e), e);
	assert_ok(snapshot_hold(w.im, "c1", id, &e), e);
	stop(&w);
	start(&w);
	assert_err(image_remove(w.im, &w.call, id, &e), e, ERR_STATE, "");
	assert_ok(snapshot_remove(w.im, "c1", &e), e);
	assert_ok(image_remove(w.im, &w.call, id, &e), e);
	end(&w);
}

TEST(sixty_layers_lie_one_over_the_other)
{
	char **layers = NULL, name[20];
	struct world w;
	struct err e;
	int mnt;

	begin(&w);
	for (int i = 0; i < 60; i++)
		layers = strv_append(&w.call.arena, layers, layer(&w, arena_printf(&w.call.arena, "n%d", i), fill_numbered, i,
								(struct unpack_result){ 0 }));
	/* The first once more on top: it counts there. */
	layers = strv_append(&w.call.arena, layers, layers[0]);
	assert_true(layer_ref(w.im->layers, layers[0]));
	char *id = image(&w, "tall", layers);
	assert_ok(snapshot_create(w.im, "c1", id, &e), e);
	assert_ok(snapshot_mount(w.im, "c1", -1, &mnt, &e), e);
	assert_string_equal(text(&w, mnt, "who"), "l0");
	for (int i = 0; i < 60; i++) {
		(void)snprintf(name, sizeof(name), "l%d", i);
		assert_string_equal(text(&w, mnt, name), name);
	}
	fd_close(&mnt);
	assert_ok(snapshot_remove(w.im, "c1", &e), e);
	end(&w);
}

static void fill_lower(int dir, int i UNUSED)
{
	struct err e;

	assert_ok(fs_mkdirs(dir, "opaque/sub", 0755, &e), e);
	assert_ok(fs_mkdirs(dir, "plain/sub", 0755, &e), e);
	put_file(dir, "opaque/old", "1");
	put_file(dir, "plain/old", "1");
	put_file(dir, "gone", "1");
	put_file(dir, "back", "1");
}

static void fill_middle(int dir, int i UNUSED)
{
	struct err e;

	assert_ok(fs_mkdirs(dir, "opaque", 0755, &e), e);
	auto_fd int fd = fd_open(dir, "opaque", O_RDONLY | O_DIRECTORY, &e);
	assert_int_equal(fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0), 0);
	put_file(dir, "opaque/new", "2");
	assert_ok(fs_mkdirs(dir, "plain", 0755, &e), e);
	assert_int_equal(mknodat(dir, "plain/old", S_IFCHR, 0), 0);
	assert_int_equal(mknodat(dir, "gone", S_IFCHR, 0), 0);
	assert_int_equal(mknodat(dir, "back", S_IFCHR, 0), 0);
	assert_int_equal(fchown(dir, 7, 8), 0);
	assert_int_equal(fchmod(dir, 01711), 0);
}

static void fill_upper(int dir, int i UNUSED)
{
	put_file(dir, "back", "3");
}

TEST(whiteouts_and_opaque_folders_hide_through_three_layers)
{
	char **layers = NULL;
	struct world w;
	struct stat st;
	struct err e;
	int mnt;

	begin(&w);
	layers = strv_append(&w.call.arena, layers, layer(&w, "lower", fill_lower, 0, (struct unpack_result){ 0 }));
	layers = strv_append(&w.call.arena, layers,
			     layer(&w, "middle", fill_middle, 0, (struct unpack_result){ .has_root = true }));
	layers = strv_append(&w.call.arena, layers, layer(&w, "upper", fill_upper, 0, (struct unpack_result){ 0 }));
	assert_ok(snapshot_create(w.im, "c1", image(&w, "three", layers), &e), e);
	assert_ok(snapshot_mount(w.im, "c1", -1, &mnt, &e), e);
	assert_null(text(&w, mnt, "opaque/old"));
	assert_int_equal(faccessat(mnt, "opaque/sub", F_OK, 0), -1);
	assert_string_equal(text(&w, mnt, "opaque/new"), "2");
	assert_null(text(&w, mnt, "plain/old"));
	assert_int_equal(faccessat(mnt, "plain/sub", F_OK, 0), 0);
	assert_null(text(&w, mnt, "gone"));
	assert_string_equal(text(&w, mnt, "back"), "3");
	assert_int_equal(fstat(mnt, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01711);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(st.st_gid, 8);
	fd_close(&mnt);
	end(&w);
}

TEST(an_opaque_root_hides_all_below)
{
	char *opaque[] = { (char *)".", NULL }, **layers = NULL;
	struct world w;
	struct err e;
	int mnt;

	begin(&w);
	layers = strv_append(&w.call.arena, layers, layer(&w, "lower", fill_lower, 0, (struct unpack_result){ 0 }));
	layers = strv_append(&w.call.arena, layers,
			     layer(&w, "anew", fill_upper, 0, (struct unpack_result){ .opaque = opaque }));
	assert_ok(snapshot_create(w.im, "c1", image(&w, "anew", layers), &e), e);
	assert_ok(snapshot_mount(w.im, "c1", -1, &mnt, &e), e);
	assert_null(text(&w, mnt, "gone"));
	assert_string_equal(text(&w, mnt, "back"), "3");
	fd_close(&mnt);
	end(&w);
}

TEST(a_container_can_make_folders_without_end_and_is_removed)
{
	struct world w;
	struct err e;
	int at;

	begin(&w);
	assert_ok(snapshot_create(w.im, "c1", image(&w, "deep", NULL), &e), e);
	at = fd_open(w.root, "containers/c1/upper", O_RDONLY | O_DIRECTORY, &e);
	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(at, "a-folder-in-a-folder", 0755), 0);
		next = fd_open(at, "a-folder-in-a-folder", O_RDONLY | O_DIRECTORY, &e);
		fd_close(&at);
		at = next;
	}
	fd_close(&at);
	assert_ok(snapshot_remove(w.im, "c1", &e), e);
	gone(&w, "containers/c1");
	end(&w);
}

TEST(two_snapshots_of_one_container_cannot_be)
{
	struct world w;
	struct err e;

	begin(&w);
	char *id = image(&w, "one", NULL);
	assert_ok(snapshot_create(w.im, "c1", id, &e), e);
	assert_err(snapshot_create(w.im, "c1", id, &e), e, ERR_EXISTS, "c1");
	assert_err(snapshot_create(w.im, "../c2", id, &e), e, ERR_INVALID, "c2");
	assert_err(snapshot_create(w.im, "c3", "sha256:00", &e), e, ERR_NOT_FOUND, "no image");
	end(&w);
}

/* --- removal and garbage --------------------------------------------------------------------------- */

TEST(an_image_in_use_is_not_removed_even_after_a_restart)
{
	char **layers = NULL;
	struct image found;
	struct world w;
	struct err e;

	begin(&w);
	layers = strv_append(&w.call.arena, layers, layer(&w, "l", fill_numbered, 1, (struct unpack_result){ 0 }));
	char *id = image(&w, "used", layers);
	assert_ok(snapshot_create(w.im, "c1", id, &e), e);
	assert_err(image_remove(w.im, &w.call, "used", &e), e, ERR_STATE, "in use by 1 container");
	stop(&w);
	start(&w);
	assert_err(image_remove(w.im, &w.call, id, &e), e, ERR_STATE, "in use by 1 container");
	assert_ok(image_find(w.im, &w.call.arena, "used", &found, &e), e);
	assert_ok(snapshot_remove(w.im, "c1", &e), e);
	assert_ok(image_remove(w.im, &w.call, "used", &e), e);
	assert_ok(image_remove(w.im, &w.call, "used", &e), e); /* absent: success */
	assert_err(image_find(w.im, &w.call.arena, id, &found, &e), e, ERR_NOT_FOUND, "no image");
	assert_int_equal(entries(&w, "layers"), 0);
	assert_int_equal(entries(&w, "content/blobs/sha256"), 0);
	assert_null(strstr(text(&w, w.root, "content/index.json"), "used"));
	end(&w);
}

static char *names_of(struct world *w, const char *id)
{
	char *all = arena_strdup(&w->call.arena, "");
	struct image im;
	struct err e;

	assert_ok(image_find(w->im, &w->call.arena, id, &im, &e), e);
	for (size_t i = 0; im.tags[i]; i++)
		all = arena_printf(&w->call.arena, "%s%s ", all, im.tags[i]);
	for (size_t i = 0; im.digests[i]; i++)
		all = arena_printf(&w->call.arena, "%s%.12s ", all, im.digests[i]);
	return all;
}

TEST(one_of_several_names_goes_alone_and_the_last_one_does_not)
{
	static const char digest[] = "@sha256:00000000000000000000000000000000000000000000000000000000000000aa";
	struct world w;
	bool last;
	struct err e;

	begin(&w);
	char *id = image(&w, "x", NULL), *by_digest = arena_printf(&w.call.arena, "h:5000/r%s", digest);
	assert_ok(image_tag(w.im, id, "h:5000/r:1", &e), e);
	assert_ok(image_tag(w.im, id, "h:5000/r:2", &e), e);
	assert_ok(image_tag(w.im, id, by_digest, &e), e);
	assert_ok(image_untag(w.im, &w.call, "h:5000/r:1", &last, &e), e);
	assert_false(last);
	assert_string_equal(names_of(&w, id), "docker.io/library/x:latest h:5000/r:2 h:5000/r@sha ");
	assert_ok(image_untag(w.im, &w.call, "h:5000/r:2", &last, &e), e); /* no tag of r is left, so its digest goes too */
	assert_false(last);
	stop(&w);
	start(&w);
	assert_string_equal(names_of(&w, id), "docker.io/library/x:latest ");
	const char *const no_untag[] = { "x", "none", id };
	for (size_t i = 0; i < ARRAY_SIZE(no_untag); i++) {
		assert_ok(image_untag(w.im, &w.call, no_untag[i], &last, &e), e);
		assert_true(last);
	}
	assert_string_equal(names_of(&w, id), "docker.io/library/x:latest ");
	end(&w);
}

TEST(what_two_images_share_stays_with_the_other)
{
	char **one = NULL, **two = NULL;
	struct world w;
	struct err e;

	begin(&w);
	one = strv_append(&w.call.arena, one, layer(&w, "shared", fill_numbered, 1, (struct unpack_result){ 0 }));
	one = strv_append(&w.call.arena, one, layer(&w, "own", fill_numbered, 2, (struct unpack_result){ 0 }));
	two = strv_append(&w.call.arena, two, one[0]);
	assert_true(layer_ref(w.im->layers, one[0]));
	(void)image(&w, "one", one);
	(void)image(&w, "two", two);
	assert_int_equal(entries(&w, "layers"), 2);
	assert_ok(image_remove(w.im, &w.call, "one", &e), e);
	assert_int_equal(entries(&w, "layers"), 1);
	assert_int_equal(entries(&w, "content/blobs/sha256"), 2);
	stop(&w);
	start(&w); /* its row stayed too */
	assert_int_equal(entries(&w, "layers"), 1);
	end(&w);
}

TEST(what_a_failed_pull_had_made_goes_and_its_blobs_can_be_gone_on_with)
{
	struct arena *a;
	struct world w;
	struct err e;

	begin(&w);
	a = &w.call.arena;
	char *digest = digest_of(a, STR("blob")), *diff_id = layer(&w, "l", fill_numbered, 1, (struct unpack_result){ 0 });
	assert_ok(content_put(w.im->content, &w.call, digest, STR("blob"), &e), e);
	assert_ok(images_tidy(w.im, IMAGES_ROOM, &e), e); /* both are held */
	assert_int_equal(entries(&w, "layers"), 1);
	content_release(w.im->content, digest);
	layer_release(w.im->layers, diff_id);
	assert_ok(images_tidy(w.im, IMAGES_ROOM, &e), e);
	assert_int_equal(entries(&w, "layers"), 0);
	assert_int_equal(entries(&w, "content/blobs/sha256"), 0);
	assert_int_equal(entries(&w, "content/ingest"), 1);
	end(&w);
}

TEST(old_partial_fetches_go_unless_one_goes_on_with_them)
{
	struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	struct world w;
	uint64_t have;
	struct err e;
	bool mine;
	int fd;

	begin(&w);
	char *digest = digest_of(&w.call.arena, STR("blob")), *other = digest_of(&w.call.arena, STR("other"));
	for (int i = 0; i < 2; i++) {
		const char *path = arena_printf(&w.call.arena, "content/ingest/%s", strchr(i ? other : digest, ':') + 1);

		put_file(w.root, path, "bl");
		assert_int_equal(utimensat(w.root, path, old, 0), 0);
	}
	assert_ok(content_take(w.im->content, &w.call, digest, &mine, &e), e);
	assert_true(mine);
	assert_ok(content_ingest(w.im->content, digest, &fd, &have, &e), e);
	assert_int_equal(have, 2);
	assert_ok(content_collect(w.im->content, &e), e);
	assert_int_equal(entries(&w, "content/ingest"), 1);
	assert_int_equal(pwrite(fd, "ob", 2, 2), 2);
	fd_close(&fd);
	assert_ok(content_commit(w.im->content, digest, 4, &e), e);
	content_release(w.im->content, digest);
	end(&w);
}

TEST(what_is_left_over_is_swept_in_the_background)
{
	struct world w;
	struct layer_work work;
	struct err e;

	prepare(&w);
	char *orphan = digest_of(&w.call.arena, STR("orphan"));
	assert_ok(fs_mkdirs(w.root, "layers/.new-1/a/b", 0755, &e), e);
	assert_ok(fs_mkdirs(w.root, "layers/.old-2/a/b", 0755, &e), e);
	assert_ok(fs_mkdirs(w.root, "layers/lost+found", 0755, &e), e);
	assert_ok(fs_mkdirs(w.root, arena_printf(&w.call.arena, "layers/%s/a/b", strchr(orphan, ':') + 1), 0755, &e), e);
	start(&w);
	/* It can be made anew at once, and nobody takes it away. */
	assert_ok(layer_take(w.im->layers, &w.call, orphan, &work, &e), e);
	assert_true(work.mine);
	fill_numbered(work.dir_fd, 1);
	assert_ok(layer_commit(w.im->layers, &work, &(struct unpack_result){ .diff_id = orphan }, &e), e);
	for (int i = 0; i < 500 && entries(&w, "layers") > 2; i++)
		assert_ok(call_sleep(&w.call, 10 * NS_PER_MS, &e), e);
	assert_int_equal(entries(&w, "layers"), 2);
	assert_non_null(text(&w, w.root, arena_printf(&w.call.arena, "layers/%s/who", strchr(orphan, ':') + 1)));
	assert_int_equal(faccessat(w.root, "layers/lost+found", F_OK, 0), 0);
	layer_release(w.im->layers, orphan);
	end(&w);
}

TEST(an_end_does_not_wait_for_the_sweep)
{
	struct world w;
	struct err e;

	prepare(&w);
	for (int i = 0; i < 20000; i++)
		assert_ok(fs_mkdirs(w.root, arena_printf(&w.call.arena, "layers/.old-1/%d/%d", i / 100, i), 0755, &e), e);
	start(&w);
	stop(&w);
	assert_int_equal(entries(&w, "layers"), 1);
	start(&w); /* the next goes on */
	for (int i = 0; i < 1000 && entries(&w, "layers"); i++)
		assert_ok(call_sleep(&w.call, 10 * NS_PER_MS, &e), e);
	assert_int_equal(entries(&w, "layers"), 0);
	end(&w);
}

/* --- digests --------------------------------------------------------------------------------------- */

TEST(content_named_by_sha512_is_refused_in_words)
{
	struct layer_work work;
	struct world w;
	struct err e;
	bool mine;

	begin(&w);
	char *digest = arena_printf(&w.call.arena, "sha512:%0128d", 1);
	assert_err(content_take(w.im->content, &w.call, digest, &mine, &e), e, ERR_UNIMPLEMENTED, "only content named by sha256");
	assert_err(layer_take(w.im->layers, &w.call, digest, &work, &e), e, ERR_UNIMPLEMENTED, "only sha256 diff IDs");
	assert_err(content_take(w.im->content, &w.call, "sha256:x", &mine, &e), e, ERR_INVALID, "digest");
	end(&w);
}
