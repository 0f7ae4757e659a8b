"""Full-text and hybrid search."""

import time

import pytest

PLOTS = {
    "alien": "The crew of a freighter runs into a perfect organism",
    "brazil": "A clerk dreams of running away from the ministry",
    "tampopo": "ラーメン屋を立て直すために客が集まる",
    "chungking": "两个警察在香港寻找爱情",
    "amelie": "Une serveuse décide de réparer la vie des autres, les chevaux aussi",
}


def vector(place, key, **metadata):
    return {"key": key, "data": {"float32": [float(place), 1.0]}, "metadata": metadata}


@pytest.fixture
def films(s3, bucket):
    texts = [
        {"metadataKey": "plot", "language": "en"},
        {"metadataKey": "ja", "language": "ja"},
        {"metadataKey": "fr", "language": "fr"},
        {"metadataKey": "any"},
    ]
    s3.create_index(
        vectorBucketName=bucket, indexName="texts", dataType="float32", dimension=2, distanceMetric="euclidean",
        metadataConfiguration={"nonFilterableMetadataKeys": ["plot"], "textSearchConfigurations": texts},
    )
    index = {"vectorBucketName": bucket, "indexName": "texts"}
    rows = [
        vector(place, key, plot=plot, ja=plot, fr=plot, any=plot, even=place % 2 == 0)
        for place, (key, plot) in enumerate(PLOTS.items())
    ]
    s3.put_vectors(**index, vectors=rows)
    return index


def keys(answer):
    return [found["key"] for found in answer["vectors"]]


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("plot", "run", ["brazil", "alien"]),
        ("plot", "Ministries", ["brazil"]),
        ("any", "run", []),
        ("any", "RUNNING", ["brazil"]),
        ("ja", "ラーメン", ["tampopo"]),
        ("ja", "香港", ["chungking"]),
        ("fr", "cheval", ["amelie"]),
        ("plot", "nothing like it", []),
    ],
)
def test_words_of_many_languages(s3, films, field, text, expected):
    found = s3.query_vectors(**films, topK=10, queryTexts=[{"text": text, "metadataKey": field}])
    assert sorted(keys(found)) == sorted(expected)
    assert all(set(row) == {"key"} for row in found["vectors"])


def test_words_are_scored_and_filtered(s3, films):
    asked = [{"text": "running organism", "metadataKey": "plot"}, {"text": "clerk", "metadataKey": "any"}]
    found = s3.query_vectors(**films, topK=10, queryTexts=asked, returnScores=True, returnMetadata=True)["vectors"]
    totals = [sum(score["score"] for score in row["scores"]["bm25Scores"]) for row in found]
    assert len(found) == 2 and totals == sorted(totals, reverse=True) and min(totals) > 0
    brazil = next(row for row in found if row["key"] == "brazil")
    assert [score["metadataKey"] for score in brazil["scores"]["bm25Scores"]] == ["plot", "any"]
    assert "fused" not in brazil["scores"] and "vectorDistance" not in brazil["scores"]
    assert brazil["metadata"]["plot"] == PLOTS["brazil"]
    filtered = s3.query_vectors(**films, topK=10, queryTexts=asked, filter={"even": True})
    assert keys(filtered) == ["alien"]


def test_a_vector_and_words_are_ranked_together(s3, films):
    asked = {"topK": 5, "queryVector": {"float32": [4.0, 1.0]}, "queryTexts": [{"text": "clerk", "metadataKey": "any"}]}
    found = s3.query_vectors(**films, **asked, returnScores=True, returnDistance=True)["vectors"]
    fused = [row["scores"]["fused"] for row in found]
    assert len(found) == 5 and fused == sorted(fused, reverse=True)
    best = found[0]
    # First by its words, and fourth by its vector.
    assert best["key"] == "brazil" and best["distance"] == best["scores"]["vectorDistance"] == 3.0
    assert best["scores"]["fused"] == pytest.approx(1 / 61 + 1 / 64)
    assert found[1]["key"] == "amelie" and "bm25Scores" not in found[1]["scores"]


def test_fields_come_and_go(s3, index, refused):
    s3.put_vectors(**index, vectors=[vector(0, "a", plot="to be searched later")])
    asked = {"topK": 1, "queryTexts": [{"text": "searching", "metadataKey": "plot"}]}
    refused("ValidationException", "no text search configuration", s3.query_vectors, **index, **asked)
    update = s3.update_metadata_configuration
    added = {"textSearchConfigurations": [{"metadataKey": "plot", "language": "en"}]}
    refused("ValidationException", "either add or delete", update, **index)
    gone = {"textSearchConfigurations": [{"metadataKey": "plot"}]}
    refused("ValidationException", "either add or delete", update, **index, add=added, delete=gone)
    update(**index, add=added)
    refused("ConflictException", "configured already", update, **index, add=added)
    for _ in range(100):
        shown = s3.get_index(**index)["index"]["metadataConfiguration"]["textSearchConfigurations"]
        assert shown[0]["metadataKey"] == "plot" and shown[0]["language"] == "en"
        if shown[0]["status"] == "ACTIVE":
            break
        time.sleep(0.1)
    assert shown[0]["status"] == "ACTIVE"
    assert keys(s3.query_vectors(**index, **asked)) == ["a"]
    update(**index, delete=gone)
    refused("ConflictException", "is not configured", update, **index, delete=gone)
    refused("ValidationException", "no text search configuration", s3.query_vectors, **index, **asked)
