//! Pictures through the whole engine: messages in, the reference's tokens out.

use std::path::PathBuf;

use base::Rng;
use chat::{Answer, Content, GenerateRequest, ImageSource, Message, Part, Prompt, Role, Video};
use engine::{Engine, Options};
use kernels::{KvFormat, Precision};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::harness::{MODEL, answer, continuation, start};

const EXACT: Options = Options {
    kv_bytes: 1 << 26,
    kv_format: KvFormat::F32,
    precision: Precision::Exact,
    sequences_max: 8,
    rows_per_step: 256,
    requests_max: 64,
    project_requests_max: 64,
    seed: 0,
    guesses: true,
    expert_bytes: None,
};

/// Tokens of the tiny vocabulary; the models have 512 logits.
const TOKENS: u32 = 506;

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)).unwrap()
}

fn picture(path: &str) -> Part {
    Part::Image(ImageSource::Bytes(fixture(path).into()))
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn user(parts: Vec<Part>) -> Message {
    Message { content: Content::Parts(parts), ..Message::text(Role::User, "") }
}

/// 32 tokens, whatever the model would rather do.
fn conversation(messages: Vec<Message>) -> GenerateRequest {
    GenerateRequest { prompt: Prompt::Messages(messages), logprobs: Some(0), ..continuation(Vec::new(), 32) }
}

fn tokens(answer: &Answer) -> Vec<u32> {
    answer.logprobs.iter().map(|token| token.chosen.token).collect()
}

/// The frames of the golden clip as PNG files.
fn frames(family: &str) -> Vec<ImageSource> {
    let bytes = fixture(&format!("tiny/{family}/golden.safetensors"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let clip = tensors.tensor("video.frames_u8").unwrap();
    let [count, _, height, width] = clip.shape().try_into().unwrap();
    let plane = height * width;
    let frame = |index: usize| {
        let planes = &clip.data()[index * 3 * plane..][..3 * plane];
        let pixel = |x: u32, y: u32| {
            let at = y as usize * width + x as usize;
            image::Rgb([planes[at], planes[plane + at], planes[2 * plane + at]])
        };
        let picture = image::RgbImage::from_fn(width as u32, height as u32, pixel);
        let mut file = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
        ImageSource::Bytes(file.into_inner().into())
    };
    (0..count).map(frame).collect()
}

/// The messages that the golden prompts were rendered from.
fn messages(family: &str, name: &str) -> Vec<Message> {
    let image = |index: usize| picture(&format!("tiny/{family}/image{index}.png"));
    let parts = match name {
        "one_image_exact_size" => vec![image(0), text("What is this?")],
        "one_image_resized" => {
            // The recorded texts differ by a word.
            let rest = if family == "qwen3_vl_moe" { " and answer. 2" } else { " and answer." };
            vec![text("Look: "), image(1), text(rest)]
        }
        "two_images" => vec![image(2), text("first, then"), image(0), text("second.")],
        "video" => {
            let video = Video::Frames { frames: frames(family), per_second: Some(2.0) };
            vec![Part::Video(video), text("What moves?")]
        }
        other => panic!("{other}"),
    };
    vec![user(parts)]
}

fn golden(family: &str) -> Vec<(String, Vec<u32>, usize)> {
    let golden: Value = serde_json::from_slice(&fixture(&format!("tiny/{family}/golden.json"))).unwrap();
    let ids =
        |value: &Value| value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<_>>();
    let case = |case: &Value| {
        (case["name"].as_str().unwrap().to_owned(), ids(&case["greedy_ids"]), ids(&case["input_ids"]).len())
    };
    golden["vision_cases"].as_array().unwrap().iter().map(case).collect()
}

#[tokio::test]
async fn answers_about_pictures_are_the_references() {
    for family in ["qwen3_vl", "qwen3_vl_moe"] {
        // Steps of nine rows cut through the pictures.
        for rows_per_step in [256, 9] {
            let engine = start(&format!("tiny/{family}"), Options { rows_per_step, ..EXACT });
            for (name, expected, prompt_tokens) in golden(family) {
                let request = conversation(messages(family, &name));
                assert_eq!(
                    engine.count_prompt(request.clone()).await.unwrap() as usize,
                    prompt_tokens,
                    "{family} {name}"
                );
                let found = answer(&engine, request).await;
                // The reference may draw an id that belongs to no token; nothing here does.
                let real = expected.iter().take_while(|&&token| token < TOKENS).count();
                assert!(real >= 16, "{family} {name}: {real} tokens are comparable");
                assert_eq!(tokens(&found)[..real], expected[..real], "{family} {name}");
                assert_eq!(found.finish.usage.prompt_tokens as usize, prompt_tokens, "{family} {name}");
            }
        }
    }
}

/// Pictures of whole tokens, enough of them to fill blocks of the cache.
fn drawn(seed: u64) -> Part {
    let mut rng = Rng::seeded(seed);
    let picture = image::RgbImage::from_fn(96, 96, |_, _| image::Rgb(std::array::from_fn(|_| rng.next_u64() as u8)));
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    Part::Image(ImageSource::Bytes(file.into_inner().into()))
}

async fn ask(engine: &Engine, pictures: &[u64]) -> Answer {
    let parts = pictures.iter().map(|&seed| drawn(seed)).chain([text("What is it?")]).collect();
    answer(engine, conversation(vec![user(parts)])).await
}

#[tokio::test]
async fn the_prefix_cache_tells_pictures_apart() {
    let engine = start("tiny/qwen3_vl", EXACT);
    let (first, other): (Vec<u64>, Vec<u64>) = ((0..20).collect(), (100..120).collect());
    let once = ask(&engine, &first).await;
    assert_eq!(once.finish.usage.cached_tokens, 0);
    // The same tokens, other pictures: nothing of the first prompt may be used.
    let mixed: Vec<u64> = first.iter().take(10).chain(&other[10..]).copied().collect();
    let differs = ask(&engine, &other).await;
    assert_eq!(differs.finish.usage.cached_tokens, 0);
    assert_ne!(tokens(&differs), tokens(&once));
    let again = ask(&engine, &first).await;
    assert!(again.finish.usage.cached_tokens as usize >= 2 * kernels::KV_BLOCK_TOKENS, "{:?}", again.finish.usage);
    assert_eq!(tokens(&again), tokens(&once));
    // Half of the pictures are the same: at most that half comes from the cache.
    let half = ask(&engine, &mixed).await;
    let cached = half.finish.usage.cached_tokens as usize;
    assert!(cached > 0 && cached <= 10 * 11 + 4, "{cached}");
    let fresh = ask(&start("tiny/qwen3_vl", EXACT), &mixed).await;
    assert_eq!(tokens(&half), tokens(&fresh));
}

#[tokio::test]
async fn pictures_share_steps_with_others_and_survive_being_put_back() {
    let family = "qwen3_vl";
    let alone = start("tiny/qwen3_vl", EXACT);
    let requests: Vec<GenerateRequest> = golden(family)
        .into_iter()
        .map(|(name, ..)| conversation(messages(family, &name)))
        .chain((0..6).map(|seed| continuation(vec![1 + seed; 70], 40)))
        .map(|request| GenerateRequest { logprobs: Some(0), ..request })
        .collect();
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(tokens(&answer(&alone, request.clone()).await));
    }
    let tight =
        start("tiny/qwen3_vl", Options { kv_bytes: crate::harness::small("tiny/qwen3_vl", 8).kv_bytes, ..EXACT });
    let answers = requests.iter().map(|request| answer(&tight, request.clone()));
    let found: Vec<Vec<u32>> = futures::future::join_all(answers).await.iter().map(tokens).collect();
    assert_eq!(found, expected);
}

async fn refused(engine: &Engine, messages: Vec<Message>) -> String {
    match engine.start_generation(conversation(messages)).await {
        Err(error) => {
            assert_eq!(error.kind(), base::Kind::Invalid, "{error}");
            error.to_string()
        }
        Ok(_) => panic!("nothing was refused"),
    }
}

#[tokio::test]
async fn what_cannot_be_seen_is_refused_in_words() {
    let blind = start("nano", EXACT);
    let here = || picture("tiny/qwen3_vl/image0.png");
    let error = refused(&blind, vec![user(vec![here()])]).await;
    assert!(error.contains("picture") && error.contains("text only"), "{error}");

    let engine = start("tiny/qwen3_vl", EXACT);
    let of = |bytes: &[u8]| vec![user(vec![Part::Image(ImageSource::Bytes(bytes.into()))])];
    let file = |list| vec![user(vec![Part::Video(list)])];
    for (messages, word) in [
        (of(b""), "it is empty"),
        (of(&fixture("tiny/qwen3_vl/image0.png")[..1000]), "picture"),
        (vec![user(vec![Part::Image(ImageSource::Url("https://example.org/a.png".to_owned()))])], "nobody fetched"),
        (vec![user(vec![Part::Image(ImageSource::Url("data:image/png;base64,%".to_owned()))])], "not base64"),
        (file(Video::File(ImageSource::Bytes(fixture("tiny/qwen3_vl/image0.png").into()))), "frame"),
        (file(Video::Frames { frames: Vec::new(), per_second: None }), "frames is 0"),
        (file(Video::Frames { frames: frames("qwen3_vl"), per_second: Some(0.0) }), "fps is 0"),
        (
            vec![Message { role: Role::System, ..user(vec![here(), text("x")]) }, user(vec![text("y")])],
            "fewer pictures",
        ),
        (vec![user((0..300).map(|_| here()).collect())], "256 allowed"),
    ] {
        let error = refused(&engine, messages).await;
        assert!(error.contains(word), "{error:?} lacks {word:?}");
    }
    // What a user spells is text, not a place for a picture.
    let spelled = conversation(vec![user(vec![here(), text("<|image_pad|><|vision_start|>")])]);
    assert_eq!(answer(&engine, spelled).await.finish.usage.output_tokens, 32);
}

#[tokio::test]
async fn a_picture_that_moves_is_a_video() {
    let engine = start("tiny/qwen3_vl", EXACT);
    let frames: Vec<ImageSource> = frames("qwen3_vl");
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    for frame in &frames {
        let picture = image::load_from_memory(&frame.bytes().unwrap()).unwrap().into_rgba8();
        let delay = image::Delay::from_numer_denom_ms(500, 1);
        encoder.encode_frame(image::Frame::from_parts(picture, 0, 0, delay)).unwrap();
    }
    drop(encoder);
    let request = |part| conversation(vec![user(vec![part, text("What moves?")])]);
    let moving = request(Part::Image(ImageSource::Bytes(gif.into())));
    let listed = request(Part::Video(Video::Frames { frames, per_second: None }));
    let prompt_tokens = engine.count_prompt(moving.clone()).await.unwrap();
    assert_eq!(prompt_tokens, engine.count_prompt(listed).await.unwrap());
    assert_eq!(answer(&engine, moving).await.finish.usage.prompt_tokens, prompt_tokens);
}

#[test]
fn a_model_without_a_head_is_refused_when_it_starts() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/qwen3_embedding");
    let mut checkpoint = models::Checkpoint::open(&path).unwrap();
    // It is published without a head; only a configuration that ties it to the embedding gives it one.
    checkpoint.config.tied = false;
    assert!(!checkpoint.has_head());
    let cpu = kernels::CpuOptions { isa: None, threads: std::num::NonZeroUsize::MIN, is_pinned: false };
    let cpu = std::sync::Arc::new(kernels::Cpu::new(cpu).unwrap());
    let clock = std::sync::Arc::new(base::ManualClock::default());
    let error = Engine::start(MODEL, &checkpoint, cpu, clock, EXACT, |_, _| {}).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no vocabulary head"), "{error}");
    assert_eq!(error.kind(), base::Kind::Invalid);
}
